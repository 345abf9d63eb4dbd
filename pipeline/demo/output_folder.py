"""The folder that the demo writes: report, pictures and logs; and the stack while it runs.

However the demo ends, the stack is stopped and its folder deleted, since it holds records in
clear: a broker that is stopped expires nothing.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from erasestream.pipeline.demo.observations import UploadTrace
from erasestream.pipeline.demo.photos import Photo
from erasestream.pipeline.demo.scenario import SENDERS
from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.errors import Refused

STACK = "stack"
LOGS = "logs"
RESULTS = "results"
REPORT = "report.html"
PHOTOS = "photos"
EXTENSIONS = {"image/png": "png", "image/webp": "webp"}


@contextmanager
def temporary_stack(output: Path, cache: Path, log: Callable[[str], None]) -> Iterator[Stack]:
    """Give a new stack, stopped and deleted at the end; its logs are kept."""
    folder = output / STACK
    stack = Stack(folder, cache=cache, progress=log)
    if stack.running():
        raise Refused(f"another demo runs in {output}: wait for it, or choose another folder")
    if folder.exists() and not stack.exists:
        raise Refused(f"{folder} is not from a demo: move it, or choose another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield stack
    finally:
        stack.stop()
        if stack.files.logs.is_dir():
            shutil.copytree(stack.files.logs, output / LOGS, dirs_exist_ok=True)
        shutil.rmtree(folder)


def saved_photo(output: Path, photo: Photo) -> Path:
    """Return where a photo is saved."""
    return output / RESULTS / PHOTOS / photo.name


def save_pictures(output: Path, uploads: Sequence[UploadTrace]) -> None:
    """Write photos and cut-outs, a folder for each account; replace those of an earlier demo."""
    results = output / RESULTS
    for folder in (results / name for name in (PHOTOS, *(sender.label for sender in SENDERS))):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.*"):
            old.unlink()
    for upload in uploads:
        order, number = upload.order, upload.order.reference.rpartition("-")[2]
        saved_photo(output, order.photo).write_bytes(order.photo.data)
        if cutout := upload.cutout:
            name = f"{Path(order.photo.name).stem}-{number}.{EXTENSIONS[cutout.content_type]}"
            (results / order.sender.label / name).write_bytes(cutout.data)

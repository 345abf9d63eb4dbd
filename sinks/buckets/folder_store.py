"""An `ObjectStore` in a folder: objects are plain files.

For the transparency log, which anyone may be given; not for images, nor for keys.
"""

import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from erasestream.schemas.errors import (
    AlreadyExists,
    Code,
    InvariantBroken,
    NotFound,
    SealBroken,
    Unavailable,
)
from erasestream.sinks.buckets.object_store import ObjectInfo

DRAFTS = ".drafts"


class FolderStore:
    """Objects below a folder, which is created.  Thread-safe, also across processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / DRAFTS).mkdir(parents=True, exist_ok=True)

    def create(self, name: str, data: bytes, content_type: str) -> None:  # noqa: ARG002 (a file has none)
        """Create the object: a hard link to a flushed file, of which exactly one can succeed."""
        path = self._path(name)
        draft = self._folder / DRAFTS / f"{os.getpid()}.{secrets.token_hex(8)}"
        try:
            _write(draft, data)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(draft, path)
            finally:
                draft.unlink()
            _flush(path.parent)
        except FileExistsError:
            raise AlreadyExists(name) from None
        except OSError as error:
            raise Unavailable(code=Code.BUCKET_UNAVAILABLE) from error

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return all bytes of an object."""
        try:
            with self._path(name).open("rb") as file:
                data = file.read(max_bytes + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFound(name) from None
        except OSError as error:
            raise Unavailable(code=Code.BUCKET_UNAVAILABLE) from error
        if len(data) > max_bytes:
            raise SealBroken
        return data

    def exists(self, name: str) -> bool:
        """Return whether the object exists."""
        return self._path(name).is_file()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose name begins with `prefix`, in the order of their names."""
        folder = self._path(prefix + "_").parent
        names = sorted(
            path.relative_to(self._folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file()
        )
        for name in names:
            if name.startswith(prefix) and not name.startswith(DRAFTS):
                found = self._path(name).stat()
                yield ObjectInfo(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def delete(self, name: str) -> None:
        """Delete the object."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise NotFound(name) from None

    def _path(self, name: str) -> Path:
        if any(part in {"", ".", ".."} for part in name.split("/")):
            raise InvariantBroken("the name of an object is malformed")
        return self._folder / name


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

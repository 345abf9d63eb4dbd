"""Images, a stalled child, and waiting, for tests of the process pool."""

import asyncio
import contextlib
from collections.abc import Callable

import psutil
import pytest
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.isolation.ciphers import ImageCiphers
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.schemas.errors import Code, InvalidImage
from erasestream.schemas.options import CutoutOptions
from erasestream.schemas.sealing.body import BodyCipher
from tests.pipeline.stages.inference.pictures import gradient, saved

OPTIONS = CutoutOptions()
PHOTO = saved(gradient(200, 120), "JPEG", quality=90)
BLACK = saved(Image.new("RGB", (64, 64)))
"""The stalling model never finishes it."""
CIPHERS = ImageCiphers(BodyCipher(bytes(32), b"photo"), BodyCipher(bytes([1] * 32), b"cut-out"))
"""Those of a sealed image."""
SOON_S = 5.0
"""A deadline that tests wait for; everything else takes far less, on the busiest machine."""


async def refusal(
    pool: ProcessPool, image: bytes | memoryview, ciphers: ImageCiphers | None = None
) -> Code:
    """Return the code with which the pool refuses this image."""
    with pytest.raises(InvalidImage) as refused:
        await pool.cut_out(image, OPTIONS, ciphers)
    return refused.value.code


def children_of(pool: ProcessPool) -> list[int]:
    """Return the children that are working on an image."""
    found = []
    for pid in pool.pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child.pid for child in psutil.Process(pid).children()]
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Poll while the pool goes on; fail after two minutes."""
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 (it happens in other processes)
            await asyncio.sleep(0.02)


async def stall(pool: ProcessPool) -> tuple["asyncio.Task[CutoutImage]", int]:
    """Start an image that never finishes; return its task and its child."""
    before = set(children_of(pool))
    task = asyncio.create_task(pool.cut_out(BLACK, OPTIONS))
    await until(lambda: bool(set(children_of(pool)) - before))  # one of before may be gone
    (pid,) = set(children_of(pool)) - before
    await until(lambda: psutil.Process(pid).cpu_times().user > 0.2)
    return task, pid

"""The pool: every image gets exactly one answer, from a process of its own."""

import asyncio
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from erasestream.pipeline.gateway.image_size import size_of
from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.imaging.cutout_image import Step
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Code, InvalidImage, Refused
from erasestream.schemas.options import CutoutOptions, OutputFormat
from tests.pipeline.stages.inference.conftest import is_alive, wait_until
from tests.pipeline.stages.inference.isolation.pool_harness import (
    BLACK,
    OPTIONS,
    PHOTO,
    children_of,
    refusal,
    stall,
    until,
)
from tests.pipeline.stages.inference.pictures import gradient, png_bomb, saved


@pytest.mark.parametrize("output", list(OutputFormat))
async def test_a_cutout_equals_that_of_a_single_process(
    pool: ProcessPool, output: OutputFormat
) -> None:
    """With its size and steps."""
    options = CutoutOptions(format=output)
    cutout = await pool.cut_out(PHOTO, options)
    assert cutout.data == cut_out_once(Segmenter(pool.model), PHOTO, options).data
    assert (cutout.content_type, cutout.width, cutout.height) == (output.content_type, 200, 120)
    assert list(cutout.steps_ms) == list(Step)
    assert all(time > 0 for time in cutout.steps_ms.values())
    assert size_of(cutout.data) == (200, 120)


async def test_more_images_than_children_each_get_their_own_cutout(pool: ProcessPool) -> None:
    colours = [(200 + step, 255 - step, 230) for step in range(12)]
    images = [saved(Image.new("RGB", (40 + i, 30), c)) for i, c in enumerate(colours)]
    cutouts = await asyncio.gather(*(pool.cut_out(image, OPTIONS) for image in images))
    for number, (colour, cutout) in enumerate(zip(colours, cutouts, strict=True)):
        picture = np.asarray(Image.open(io.BytesIO(cutout.data)))
        assert picture.shape == (30, 40 + number, 4)
        assert (picture[..., :3] == colour).all()


async def test_an_invalid_image_is_refused_with_its_code(pool: ProcessPool) -> None:
    """It ends no process."""
    pids = pool.pids
    assert await refusal(pool, b"") is Code.EMPTY
    assert await refusal(pool, b"no image") is Code.UNSUPPORTED_FORMAT
    assert await refusal(pool, PHOTO[:3000]) is Code.TRUNCATED
    assert await refusal(pool, png_bomb(20_000, 20_000)) is Code.TOO_MANY_PIXELS
    assert await refusal(pool, PHOTO + bytes(30_000_000)) is Code.TOO_LARGE
    assert pool.pids == pids


async def test_limits_may_be_lowered(tiny_model: Installed) -> None:
    """The child applies them, and the sentence contains them."""
    image = saved(gradient())
    fewer = Limits(max_pixels=gradient().width * gradient().height - 1)
    for limits, code, limit in (
        (fewer, Code.TOO_MANY_PIXELS, "at most 0.006143 megapixels"),
        (
            Limits(max_bytes=len(image) - 1),
            Code.TOO_LARGE,
            f"at most {(len(image) - 1) / 1e6:g} MB",
        ),
    ):
        pool = ProcessPool(model=tiny_model, children=1, limits=limits)
        await pool.start()
        try:
            with pytest.raises(InvalidImage, match=limit) as refused:
                await pool.cut_out(image, OPTIONS)
            assert refused.value.code is code
        finally:
            await pool.close()


async def test_no_process_sees_two_images(pool: ProcessPool) -> None:
    """A child ends with its image; the zygote stays."""
    zygotes = pool.pids
    seen = []
    for _ in range(3):
        task, pid = await stall(pool)
        seen.append(pid)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        wait_until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
    assert len(set(seen)) == 3
    assert pool.pids == zygotes
    await until(lambda: not children_of(pool))


@pytest.mark.parametrize("isolation", list(Isolation))
async def test_a_cancelled_image_leaves_no_answer_behind(
    stalling_model: Installed, isolation: Isolation
) -> None:
    """The next image gets its own cut-out, from another process."""
    pool = ProcessPool(model=stalling_model, children=1, isolation=isolation)
    await pool.start()
    task = asyncio.create_task(pool.cut_out(BLACK, OPTIONS))
    await asyncio.sleep(0.1)
    task.cancel()
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    await pool.close()


async def test_closing_ends_every_child_and_refuses_images_that_wait(
    stalling_model: Installed,
) -> None:
    """An image in progress is not called a crash, which would be a failed result."""
    pool = ProcessPool(model=stalling_model, children=1)
    await pool.start()
    task, pid = await stall(pool)
    waiting = asyncio.create_task(pool.cut_out(PHOTO, OPTIONS))
    await asyncio.sleep(0)
    await pool.close()
    for each in (task, waiting, asyncio.create_task(pool.cut_out(PHOTO, OPTIONS))):
        with pytest.raises(Refused) as refused:
            await each
        assert refused.value.code is Code.CLOSED
    # It is killed by now; the kernel may need a moment to remove it.
    wait_until(lambda: not is_alive(pid))
    assert not pool.pids
    await pool.close()


async def test_a_closed_pool_can_be_started_again(tiny_model: Installed) -> None:
    pool = ProcessPool(model=tiny_model, children=1)
    for _ in range(2):
        await pool.start()
        await pool.start()
        assert len(pool.pids) == 1
        assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
        await pool.close()


def test_worker_processes_end_with_their_parent(tiny_model: Installed) -> None:
    program = f"""
import asyncio, time
from pathlib import Path
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
async def main():
    pool = ProcessPool(model=Installed.read(Path({str(tiny_model.folder)!r})), children=2)
    await pool.start()
    print(*pool.pids, flush=True)
    time.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert len(pids) == 1
        assert all(map(is_alive, pids))
        worker.kill()
        worker.wait()
    wait_until(lambda: not any(map(is_alive, pids)))


async def test_a_child_prints_nothing(
    tiny_model: Installed, capfd: pytest.CaptureFixture[str]
) -> None:
    """A decoder's warning about a stranger's picture gets into no log."""
    pool = ProcessPool(model=tiny_model, children=1)
    await pool.start()
    warns = saved(gradient(), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert (await pool.cut_out(warns, OPTIONS)).width == 96
    await pool.close()
    assert capfd.readouterr() == ("", "")

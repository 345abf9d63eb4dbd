"""Crashes, deadlines and memory limits cost one image, or none."""

import asyncio
import os
import signal

import psutil
import pytest
from PIL import Image

from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.isolation.protocol import (
    Outcome,
)
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Code, InvalidImage
from tests.pipeline.stages.inference.conftest import is_alive, wait_until
from tests.pipeline.stages.inference.isolation.pool_harness import (
    BLACK,
    OPTIONS,
    PHOTO,
    SOON_S,
    children_of,
    refusal,
    stall,
    until,
)
from tests.pipeline.stages.inference.pictures import saved


async def test_a_child_that_is_killed_costs_one_image(pool: ProcessPool) -> None:
    """An image beside it, and all later ones, succeed."""
    task, pid = await stall(pool)
    beside = asyncio.create_task(pool.cut_out(PHOTO, OPTIONS))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(InvalidImage) as refused:
        await task
    assert refused.value.code is Code.PROCESSING_CRASHED
    assert (await beside).width == 200
    for cutout in await asyncio.gather(*(pool.cut_out(PHOTO, OPTIONS) for _ in range(4))):
        assert cutout.width == 200


async def test_a_zygote_that_ended_while_idle_costs_no_image(pool: ProcessPool) -> None:
    """It is replaced."""
    (zygote,) = pool.pids
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: not is_alive(zygote))
    for _ in range(3):
        assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    assert zygote not in pool.pids


async def test_an_image_is_retried_once_after_its_zygote_ended(pool: ProcessPool) -> None:
    """Then it fails."""
    task, _ = await stall(pool)
    for _ in range(2):
        await until(lambda: bool(children_of(pool)))
        (child,), (zygote,) = children_of(pool), pool.pids
        os.kill(zygote, signal.SIGKILL)
        await until(lambda zygote=zygote: zygote not in pool.pids)  # type: ignore[misc]
        wait_until(lambda child=child: not is_alive(child))  # type: ignore[misc]
    with pytest.raises(InvalidImage) as refused:
        await task
    assert refused.value.code is Code.PROCESSING_CRASHED
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200


async def test_a_silent_zygote_is_killed_with_its_child(tiny_model: Installed) -> None:
    """It did not end the child at the deadline, so the parent kills both and goes on."""
    hostile = "tests.pipeline.stages.inference.isolation.hostile_zygote"
    pool = ProcessPool(model=tiny_model, children=1, deadline_s=SOON_S, program=hostile)
    await pool.start()
    task = asyncio.create_task(pool.cut_out(b"sleep", OPTIONS))
    await until(lambda: bool(children_of(pool)))
    (zygote,), (child,) = pool.pids, children_of(pool)
    os.kill(zygote, signal.SIGSTOP)
    with pytest.raises(InvalidImage) as refused:
        await task
    assert refused.value.code is Code.PROCESSING_TIMEOUT
    assert (await pool.cut_out(b"who am i", OPTIONS)).width == 1
    assert zygote not in pool.pids
    wait_until(lambda: not is_alive(zygote))
    wait_until(lambda: not is_alive(child))
    await pool.close()


@pytest.mark.parametrize("isolation", list(Isolation))
async def test_an_image_that_exceeds_its_deadline_fails(
    stalling_model: Installed, isolation: Isolation
) -> None:
    """Its process is killed, and the next image gets another."""
    pool = ProcessPool(model=stalling_model, children=1, deadline_s=SOON_S, isolation=isolation)
    await pool.start()
    before = pool.pids
    assert await refusal(pool, BLACK) is Code.PROCESSING_TIMEOUT
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    assert (pool.pids == before) is (isolation is Isolation.PER_IMAGE)
    await pool.close()


async def test_a_long_lived_process_that_is_killed_costs_its_image(
    stalling_model: Installed,
) -> None:
    """It worked on the image itself, which is therefore not retried."""
    pool = ProcessPool(model=stalling_model, children=1, isolation=Isolation.LONG_LIVED)
    await pool.start()
    (pid,) = pool.pids
    task = asyncio.create_task(pool.cut_out(BLACK, OPTIONS))
    before = psutil.Process(pid).cpu_times().user
    await until(lambda: psutil.Process(pid).cpu_times().user > before + 0.2)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(InvalidImage) as refused:
        await task
    assert refused.value.code is Code.PROCESSING_CRASHED
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    await pool.close()


async def test_an_image_that_needs_too_much_memory_fails_alone(tiny_model: Installed) -> None:
    """The limit is the child's."""
    probe = ProcessPool(model=tiny_model, children=1)
    await probe.start()
    (pid,) = probe.pids
    needed = psutil.Process(pid).memory_info().vms
    await probe.close()
    pool = ProcessPool(model=tiny_model, children=1, memory_bytes=needed + 100_000_000)
    await pool.start()
    large = saved(Image.new("RGB", (6000, 5000), "white"))
    assert await refusal(pool, large) is Code.PROCESSING_CRASHED
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    await pool.close()


async def test_a_failed_fork_is_retried(tiny_model: Installed) -> None:
    """The zygote goes on, and so do the images that wait."""
    pool = ProcessPool(
        model=tiny_model,
        children=2,
        program="tests.pipeline.stages.inference.isolation.crowded_zygote",
    )
    await pool.start()
    before = pool.pids
    for cutout in await asyncio.gather(*(pool.cut_out(PHOTO, OPTIONS) for _ in range(3))):
        assert cutout.width == 200
    assert pool.pids == before
    await pool.close()


async def test_a_child_that_ends_as_its_image_is_cancelled_is_reaped_once(
    pool: ProcessPool,
) -> None:
    """The zygote learns of both at once."""
    before = pool.pids
    (zygote,) = before
    task, child = await stall(pool)
    os.kill(zygote, signal.SIGSTOP)
    await until(lambda: psutil.Process(zygote).status() == psutil.STATUS_STOPPED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not is_alive(child))
    os.kill(zygote, signal.SIGCONT)
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    assert pool.pids == before


@pytest.mark.parametrize(
    "word", [Outcome.REFUSED, Outcome.FORK_FAILED, Outcome.LOADED, Outcome.CRASHED]
)
async def test_no_report_of_a_long_lived_process_ends_the_parent(
    tiny_model: Installed, word: Outcome
) -> None:
    """Otherwise the image would be read again after the restart, and end the next parent."""
    pool = ProcessPool(
        model=tiny_model,
        children=1,
        isolation=Isolation.LONG_LIVED,
        program="tests.pipeline.stages.inference.isolation.hostile_zygote",
    )
    await pool.start()
    assert await refusal(pool, word.name.encode()) is Code.PROCESSING_CRASHED
    assert (await pool.cut_out(b"who am i", OPTIONS)).width == 1
    await pool.close()

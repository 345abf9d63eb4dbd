"""The time of an image follows from its size; slow ones are counted; callers take turns."""

import asyncio
import json
from itertools import count

import pytest

from erasestream.pipeline.runtime.json_logging import JsonFormatter
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.isolation.time_limits import (
    DEADLINE_S,
    SlowImages,
    deadline_of,
)
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Code
from tests.pipeline.stages.inference.isolation.pool_harness import (
    BLACK,
    OPTIONS,
    PHOTO,
    children_of,
    refusal,
    stall,
    until,
)
from tests.pipeline.stages.inference.pictures import jpeg_bomb, png_bomb


def test_a_large_image_has_more_time_than_a_small_one_within_a_bound() -> None:
    """A false header, or none, is bounded as well."""
    assert deadline_of(b"no image", DEADLINE_S) == DEADLINE_S
    assert DEADLINE_S < deadline_of(jpeg_bomb(1600, 1250), DEADLINE_S) < 1.1 * DEADLINE_S
    assert deadline_of(jpeg_bomb(5000, 5000), DEADLINE_S) == 2 * DEADLINE_S
    for huge in (jpeg_bomb(65_000, 65_000), png_bomb(1 << 31, 1 << 31)):
        assert deadline_of(huge, DEADLINE_S) == 3 * DEADLINE_S


async def slow_images_of_one(model: Installed, *, step_s: int) -> SlowImages:
    """Cut out one photo with a clock that advances at each reading."""
    slow, ticks = SlowImages(), count(step=step_s)
    pool = ProcessPool(model=model, children=1, slow_images=slow, clock=lambda: float(next(ticks)))
    await pool.start()
    await pool.cut_out(PHOTO, OPTIONS)
    await pool.close()
    return slow


async def test_slow_images_are_counted_and_logged_without_their_names(
    tiny_model: Installed, caplog: pytest.LogCaptureFixture
) -> None:
    slow = await slow_images_of_one(tiny_model, step_s=30)
    assert slow.count == 1
    assert slow.metrics_text().splitlines()[-1] == "erasestream_slow_images_total 1"
    (record,) = [each for each in caplog.records if each.msg == "slow_image"]
    line = json.loads(JsonFormatter().format(record))
    assert line.keys() == {"at", "level", "event", "logger", "seconds", "count"}
    assert (line["event"], line["seconds"], line["count"]) == ("slow_image", 30.0, 1)


async def test_an_image_that_takes_its_share_is_not_slow(tiny_model: Installed) -> None:
    slow = await slow_images_of_one(tiny_model, step_s=5)
    assert slow.count == 0


async def test_an_image_beyond_its_deadline_is_slow(stalling_model: Installed) -> None:
    slow = SlowImages()
    pool = ProcessPool(model=stalling_model, children=1, deadline_s=1.0, slow_images=slow)
    await pool.start()
    assert await refusal(pool, BLACK) is Code.PROCESSING_TIMEOUT
    await pool.close()
    assert slow.count == 1


async def test_callers_take_turns(tiny_model: Installed) -> None:
    """One that asks again as soon as it was served does not pass those that wait."""
    pool = ProcessPool(model=tiny_model, children=1)
    await pool.start()
    served = []

    async def ask(name: str) -> None:
        for _ in range(3):
            await pool.cut_out(PHOTO, OPTIONS)
            served.append(name)

    await asyncio.gather(*(ask(name) for name in "abc"))
    await pool.close()
    assert "".join(served) == "abcabcabc"


async def test_a_caller_that_is_cancelled_takes_no_child_with_it(pool: ProcessPool) -> None:
    """Neither one that waits, nor one that was just given a child."""
    stalled = [(await stall(pool))[0] for _ in range(2)]
    waiting = [asyncio.create_task(pool.cut_out(PHOTO, OPTIONS)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    for task in stalled:
        task.cancel()
    await asyncio.wait(stalled)
    waiting[1].cancel()
    assert (await waiting[2]).width == 200
    await until(lambda: not children_of(pool))
    both = await asyncio.gather(*(pool.cut_out(PHOTO, OPTIONS) for _ in range(4)))
    assert {each.width for each in both} == {200}

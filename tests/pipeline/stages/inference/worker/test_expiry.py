"""What waited too long is not worked on, and what took too long is not handed over."""

from collections.abc import Awaitable
from datetime import timedelta

import pytest

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.worker.result_builder import ResultBuilder, Source
from erasestream.schemas.codec.cloudevents import Wire, from_wire, to_wire, type_of
from erasestream.schemas.errors import Code
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import Lane
from erasestream.schemas.options import CutoutOptions
from tests.pipeline.stages.inference.worker.test_result_builder import (
    CUTOUT,
    LANE,
    MODEL,
    NOW,
    UPLOAD,
)

LIMIT = timedelta(hours=4)
TICK = timedelta(milliseconds=1)
BULK = Lane("bulk")


class Waiting:
    """An upload that was appended at NOW, and the clock of who works on it."""

    def __init__(self, lane: Lane = LANE) -> None:
        self.now = NOW
        self.asked = 0
        self.maker = ResultBuilder(
            cut_out=self._cut_out,
            model=MODEL,
            backlog_limits={LANE: LIMIT, BULK: 2 * LIMIT},
            now=lambda: self.now,
        )
        wire = to_wire(UPLOAD, source="/test")
        position = Position(topic_id="bTYs9Br5T5qhZMdsDXX9XA", partition=3, offset=4711)
        appended_ms = int(NOW.timestamp() * 1000)
        self.source = Source(lane, position, appended_ms, wire.headers, wire.value)

    async def _cut_out(self, _: bytes, __: CutoutOptions) -> CutoutImage:
        self.asked += 1
        return CUTOUT

    def made(self, age: timedelta) -> Awaitable[Wire]:
        """Its result at this age."""
        self.now = NOW + age
        return self.maker.make(self.source)

    def judged(self, age: timedelta, made: Wire) -> Wire:
        """What is handed over at this age."""
        self.now = NOW + age
        return self.maker.judged(self.source, made)


def assert_expired(wire: Wire) -> None:
    """A failed result of this upload, and not a pixel."""
    assert type_of(wire.headers) is Failure
    failure = from_wire(Failure, wire.headers, wire.value)
    assert (failure.code, failure.id, failure.account) == (Code.EXPIRED, UPLOAD.id, UPLOAD.account)
    assert failure.uploaded_at == NOW
    assert CUTOUT.data not in wire.value


@pytest.mark.parametrize("lane", [LANE, BULK])
async def test_what_waited_too_long_is_not_worked_on(lane: Lane) -> None:
    """By the lane's own limit, and to the millisecond."""
    waiting = Waiting(lane)
    limit = LIMIT if lane == LANE else 2 * LIMIT
    assert type_of((await waiting.made(limit)).headers) is Cutout
    assert waiting.asked == 1
    assert_expired(await waiting.made(limit + TICK))
    assert waiting.asked == 1


async def test_what_took_too_long_is_not_handed_over() -> None:
    """A finished result may have waited behind others: it is judged again when its turn comes."""
    waiting = Waiting()
    made = await waiting.made(timedelta(0))
    assert waiting.judged(LIMIT, made) == made
    assert_expired(waiting.judged(LIMIT + TICK, made))

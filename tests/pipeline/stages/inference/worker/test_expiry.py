"""Expired uploads are not worked on, and results that took too long are not delivered."""

from collections.abc import Awaitable
from datetime import timedelta

import pytest

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.worker.result_builder import LaneModel, ResultBuilder
from erasestream.pipeline.stages.inference.worker.upload_record import UploadRecord
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


class ExpiryHarness:
    """An upload that was appended at NOW, and a clock for the builder."""

    def __init__(self, lane: Lane = LANE) -> None:
        self.now = NOW
        self.calls = 0
        self.builder = ResultBuilder(
            models={each: LaneModel(MODEL, self._cut_out) for each in (LANE, BULK)},
            backlog_limits={LANE: LIMIT, BULK: 2 * LIMIT},
            now=lambda: self.now,
        )
        wire = to_wire(UPLOAD, source="/test")
        position = Position(topic_id="bTYs9Br5T5qhZMdsDXX9XA", partition=3, offset=4711)
        appended_ms = int(NOW.timestamp() * 1000)
        self.record = UploadRecord(lane, position, appended_ms, wire.headers, wire.value)

    async def _cut_out(self, _: bytes, __: CutoutOptions) -> CutoutImage:
        self.calls += 1
        return CUTOUT

    def build(self, age: timedelta) -> Awaitable[Wire]:
        """Build the result at this age."""
        self.now = NOW + age
        return self.builder.build(self.record)

    def expire(self, age: timedelta, result: Wire) -> Wire:
        """Return what is delivered at this age."""
        self.now = NOW + age
        return self.builder.expire(self.record, result)


def assert_expired(wire: Wire) -> None:
    """Assert that this is a failed result of the upload, without pixels."""
    assert type_of(wire.headers) is Failure
    failure = from_wire(Failure, wire.headers, wire.value)
    assert (failure.code, failure.id, failure.account) == (Code.EXPIRED, UPLOAD.id, UPLOAD.account)
    assert failure.uploaded_at == NOW
    assert CUTOUT.data not in wire.value


@pytest.mark.parametrize("lane", [LANE, BULK])
async def test_an_expired_upload_is_not_worked_on(lane: Lane) -> None:
    """By the lane's own limit, and to the millisecond."""
    harness = ExpiryHarness(lane)
    limit = LIMIT if lane == LANE else 2 * LIMIT
    assert type_of((await harness.build(limit)).headers) is Cutout
    assert harness.calls == 1
    assert_expired(await harness.build(limit + TICK))
    assert harness.calls == 1


async def test_a_result_that_expired_while_it_waited_is_not_delivered() -> None:
    """A finished result may wait behind others: its age is checked again before delivery."""
    harness = ExpiryHarness()
    result = await harness.build(timedelta(0))
    assert harness.expire(LIMIT, result) == result
    assert_expired(harness.expire(LIMIT + TICK, result))

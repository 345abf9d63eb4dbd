"""Records that have waited are read again, whatever one partition does."""

from collections.abc import Mapping

from erasestream.pipeline.stages.encryption.held_records import HeldRecords, WaitingRecord
from erasestream.pipeline.stages.encryption.lane_freshness import LaneFreshness
from erasestream.pipeline.stages.encryption.waiting_reads import RETRY_S, WaitingReads
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Partition, Record
from tests.sinks.retention_harness import ManualClock

SILENT, OTHER = Partition(RETAINED, 0), Partition(RETAINED, 1)
LANE = Lane("shop")


class FreshLanes(LaneFreshness):
    """All lanes are fresh."""

    def __init__(self) -> None:
        self.behind = set()

    def fresh(self, routed: Mapping[Lane, Mark]) -> set[Lane]:
        return set(routed)


class Records:
    """A partition without a leader, and one with records."""

    def __init__(self) -> None:
        self.asked: list[Partition] = []

    def read(self, at: Partition, offset: int) -> Record:
        self.asked.append(at)
        if at == SILENT:
            raise Unavailable
        return Record(at, offset, 0, None, [], b"picture")


def test_a_partition_that_does_not_answer_holds_up_no_other() -> None:
    """It is asked once in a turn, however many of its records wait, and before all others."""
    records, held, clock = Records(), HeldRecords(), ManualClock()
    reads = WaitingReads(records, FreshLanes(), clock=clock)
    for at, count in ((SILENT, 100), (OTHER, 3)):
        for offset in range(count):
            held.hold(at, offset, 0)
            held.wait(WaitingRecord(at, offset, LANE, UploadId("upload"), {}))
    clock.now += RETRY_S
    again = reads.read(held, room_bytes=1000)
    assert [(each.at, each.offset) for each in again.records] == [(OTHER, n) for n in range(3)]
    assert records.asked == [SILENT, OTHER, OTHER, OTHER]

"""One partition waits or breaks, and the loop goes on with the others: on a real broker."""

from collections.abc import Iterable
from itertools import pairwise

import pytest

from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.records import Outgoing, Record
from erasestream.topics.kafka.transaction import batch
from erasestream.topics.kafka.transaction.quarantine import (
    FIRST_PAUSE_S,
    POSTPONED_S,
    TRIAL_S,
)
from erasestream.topics.kafka.transaction.read_records import MAX_PAUSE_S
from tests.flow.waiting import eventually
from tests.topics.kafka.transaction.loop_harness import NEVER_S, LoopHarness


def test_a_partition_that_waits_holds_up_no_other(scripted: LoopHarness) -> None:
    """Its records are decided later, in their order, and so are those that follow meanwhile."""
    is_fresh = [False]
    scripted.handler.can_decide = lambda at: at.number == 1 or is_fresh[0]
    scripted.produce(b"1", b"2")
    scripted.produce(b"other 1", partition=1)
    loop = scripted.start(interval_s=NEVER_S)
    scripted.run_until(lambda: loop.counters.records == 1)
    scripted.await_committed([b"other 1"])
    scripted.produce(b"3")
    scripted.produce(b"other 2", partition=1)
    scripted.run_until(lambda: loop.counters.records == 2)
    assert not scripted.loop_is_open
    is_fresh[0] = True
    scripted.run_until(lambda: loop.counters.records == 5)
    assert [each for each in scripted.handler.handled if b"o" not in each] == [b"1", b"2", b"3"]
    assert loop.counters.aborted == 0


def test_what_is_held_is_bounded_and_read_again(
    scripted: LoopHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost or repeated by it."""
    monkeypatch.setattr(batch, "MAX_HELD_BYTES", 10)
    is_fresh = [False]
    scripted.handler.can_decide = lambda at: at.number == 1 or is_fresh[0]
    scripted.produce(*(bytes([65 + number]) * 9 for number in range(3)))
    scripted.produce(b"other", partition=1)
    loop = scripted.start(interval_s=NEVER_S)
    scripted.run_until(lambda: loop.counters.records == 1)
    scripted.run_until(lambda: not loop._batch.is_holding)
    is_fresh[0] = True
    scripted.handler.now_s += POSTPONED_S
    scripted.run_until(lambda: loop.counters.records == 4)
    handled = [each[:1] for each in scripted.handler.handled]
    assert handled == [b"o", b"A", b"B", b"C"]


def test_an_unavailable_dependency_delays_its_partition_only(scripted: LoopHarness) -> None:
    """Each failure delays it for a short pause; what was decided before is committed."""
    failures = 5
    tried_s: list[float] = []

    def fail_five_times(record: Record) -> None:
        if record.value == b"3":
            tried_s.append(scripted.handler.now_s)
            if len(tried_s) <= failures:
                raise Unavailable("an original")

    scripted.handler.before = fail_five_times
    scripted.produce(b"1", b"2", b"3", b"4")
    loop = scripted.start(interval_s=NEVER_S)
    scripted.run_until(lambda: loop.counters.records == 2)
    scripted.produce(b"other", partition=1)
    scripted.run_until(lambda: loop.counters.records == 3)

    def are_all_committed() -> bool:
        scripted.handler.now_s = round(scripted.handler.now_s + 0.1, 1)
        return loop.counters.records == 5

    scripted.run_until(are_all_committed)
    assert loop.counters.aborted == 0
    waits_s = [after - before for before, after in pairwise(tried_s)]
    assert len(waits_s) == failures
    assert all(0.09 < each < MAX_PAUSE_S + 0.11 for each in waits_s[1:])  # the clock's step is 0.1
    assert [each for each in scripted.handler.handled if each != b"other"] == [
        b"1",
        b"2",
        b"3",
        b"4",
    ]


def test_a_record_that_is_too_large_breaks_its_partition(scripted: LoopHarness) -> None:
    """The library would commit without it; neither records nor offsets are committed."""
    handler = scripted.handler
    copy = handler.handle

    def too_large(record: Record) -> Iterable[Outgoing]:
        for outgoing in copy(record):
            is_second = record.value == b"2"
            yield outgoing._replace(value=bytes(70_000_000)) if is_second else outgoing

    handler.handle = too_large  # type: ignore[method-assign]
    scripted.produce(b"1", b"2", b"3")
    loop = scripted.start(interval_s=NEVER_S)
    scripted.run_until(scripted.quarantine.partitions)
    assert [each.code for each in scripted.quarantine.partitions()] == [Defect.WRITE_REFUSED]
    assert loop.counters.aborted == 1
    assert scripted.committed() == []
    scripted.produce(b"other", partition=1)
    scripted.run_until(lambda: loop.counters.records == 1)
    scripted.await_committed([b"other"])
    handler.handle = copy  # type: ignore[method-assign]
    handler.now_s += FIRST_PAUSE_S
    scripted.run_until(lambda: loop.counters.records == 4)
    handler.now_s += TRIAL_S
    scripted.run_until(lambda: not scripted.quarantine.partitions())
    values = [b"1", b"2", b"3", b"other"]
    eventually("all is committed", lambda: sorted(scripted.committed()) == values)


def test_a_record_that_cannot_be_decided_breaks_its_partition(scripted: LoopHarness) -> None:
    """Whole decisions before it are committed, and the committed offset names the defect."""
    handler = scripted.handler

    def fail(record: Record) -> None:
        if record.value == b"2":
            raise ValueError

    handler.before = fail
    scripted.produce(b"1", b"2", b"3")
    scripted.produce(b"other 1", partition=1)
    loop = scripted.start(interval_s=NEVER_S)
    scripted.run_until(lambda: scripted.quarantine.partitions() and loop.counters.records == 2)
    assert [each.code for each in scripted.quarantine.partitions()] == [Defect.UNDECIDABLE_RECORD]
    scripted.produce(b"other 2", partition=1)
    scripted.run_until(lambda: loop.counters.records == 3)
    assert scripted.committed_offset() == (1, "!undecidable_record 0")
    handler.before = lambda _: None
    handler.now_s += FIRST_PAUSE_S
    scripted.run_until(lambda: loop.counters.records == 5)
    assert scripted.committed_offset() == (3, "2")
    assert [each for each in handler.handled if b"o" not in each] == [b"1", b"2", b"3"]

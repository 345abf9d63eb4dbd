"""The order of an erasure: marker, deletion, a second look, the entry; on a real broker."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial

import pytest

from erasestream.pipeline.runtime.retry import RETRY_S, OutageLog
from erasestream.pipeline.stages.erasure.deletions import MAX_GRANTS, Deletions
from erasestream.pipeline.stages.erasure.grant_entries import GrantEntries
from erasestream.pipeline.stages.erasure.progress_reports import ProgressReports
from erasestream.pipeline.stages.erasure.stage import EraserStage
from erasestream.schemas.codec.cloudevents import from_wire, to_wire, type_of
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import ErasureEntry, ErasureProgress, GrantErased
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.sinks.images.deletion import MAX_OBJECTS, Deleted, Found
from erasestream.topics.catalog.roles import ERASER
from erasestream.topics.catalog.topic_names import erasures_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.unfinished_erasures import UnfinishedErasures
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.erasure.eraser_harness import ManualClock, run_until
from tests.pipeline.stages.erasure.test_stage import read_all
from tests.topics.consent.consent_harness import (
    ACCOUNT,
    OWNER,
    FakeVault,
    eraser,
    ledger_partitions,
    writer,
)

SETTLE_S = 25.0
NOW = datetime(2026, 11, 30, tzinfo=UTC)


class HeldObjects:
    """Keys and objects of grants, in memory."""

    def __init__(self) -> None:
        self.objects: Counter[GrantId] = Counter()
        self.gone: Counter[GrantId] = Counter()
        self.looks: list[GrantId] = []
        self.is_unavailable = False
        self.lost = 0
        """Objects that the pass after the first deletes before it fails."""

    def put(self, grant: GrantId, count: int) -> None:
        self.objects[grant] += count

    def delete(self, grant: GrantId, owner: str) -> Found:
        assert owner
        try:
            if self.is_unavailable:
                raise Unavailable("the buckets")
            fails = self.lost > 0 and grant in self.looks
            page = self.lost if fails else min(self.objects[grant], MAX_OBJECTS)
            self.objects[grant] -= page
            self.gone[grant] += page
            if fails:
                self.lost = 0
                raise Unavailable("the other batches")
            return Found(0, page)
        finally:  # last: a test that has seen the look may put more objects
            self.looks.append(grant)

    def count(self, grant: GrantId, owner: str) -> int:
        assert owner
        return self.objects[grant]

    def deleted(self, grant: GrantId) -> Deleted:
        return Deleted(("1",), self.gone[grant], "ab" * 32)


class Round:
    """Deletions of one eraser."""

    def __init__(
        self, kafka: KafkaFixture, lanes: Sequence[Lane], held: HeldObjects, clock: ManualClock
    ) -> None:
        self._writes = AcknowledgedWriter(connection=kafka.connection(ERASER), timeout_s=20)
        counts, outage = [ledger_partitions(kafka, lane) for lane in lanes], OutageLog()
        partitions = {topic: count for each in counts for topic, count in each.items()}
        entries = partial(GrantEntries, writes=self._writes, partitions=partitions, outage=outage)
        self.deletions = Deletions(
            deletion=held,
            owner_of=lambda lane, account: f"{lane}-{account}",
            entries=entries(),
            reports=ProgressReports(entries=entries(), clock=clock),
            settle_s=SETTLE_S,
            outage=outage,
            clock=clock,
        )

    def close(self) -> None:
        self.deletions.close()
        self._writes.close()


@contextmanager
def deleting(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, held: HeldObjects, clock: ManualClock
) -> Iterator[EraserStage]:
    """Open an eraser of the lane that deletes what is held."""
    with (
        closing(Round(kafka, [lane], held, clock)) as own,
        eraser(
            kafka, lane, vault, threading.Event(), clock=clock, deletions=own.deletions
        ) as stage,
    ):
        yield stage


def ends(kafka: KafkaFixture, lane: Lane) -> list[GrantErased]:
    """Return the ends of erasures in the lane."""
    return [
        from_wire(GrantErased, each.headers, each.value)
        for each in read_all(kafka, erasures_of(lane))
        if type_of(each.headers) is GrantErased
    ]


def reports(kafka: KafkaFixture, lane: Lane) -> list[tuple[int, int]]:
    """Return the numbers of deleted objects, and of those left, as reported in the lane."""
    found = [
        from_wire(ErasureProgress, each.headers, each.value)
        for each in read_all(kafka, erasures_of(lane))
        if type_of(each.headers) is ErasureProgress
    ]
    return [(each.deleted, each.left) for each in found]


def is_finished(stage: EraserStage, clock: ManualClock) -> bool:
    """Let time pass; return whether the stage had erasures to finish, and has none left."""
    clock.now += RETRY_S
    counts = [line.rpartition(" ")[2] for line in stage.metrics().splitlines() if "{" in line]
    return counts == ["0"]


@pytest.fixture
def held() -> HeldObjects:
    return HeldObjects()


def test_an_erasure_ends_once_a_late_look_finds_nothing(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, held: HeldObjects, clock: ManualClock
) -> None:
    """An object that a sink stored after its marker is deleted, too, and another look follows."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    assert grant is not None
    held.put(grant, 2)
    revoked = writes.revoke("acct", **OWNER)
    with deleting(kafka, lane, vault, held, clock) as stage:

        def run_until_looked(times: int) -> None:
            def has_looked() -> bool:
                clock.now += RETRY_S
                return len(held.looks) >= times

            run_until(f"{times} looks", stage, has_looked)

        run_until_looked(1)
        assert vault.marked == {grant}
        assert f'lane="{lane}"}} 1' in stage.metrics()
        held.put(grant, 1)
        assert ends(kafka, lane) == []
        run_until_looked(2)
        assert ends(kafka, lane) == []
        run_until_looked(3)

        run_until("its end is written", stage, lambda: is_finished(stage, clock))
        assert f'lane="{lane}"}} 0' in stage.metrics()
    (end,) = ends(kafka, lane)
    assert (end.grant, end.objects, end.keys) == (grant, 3, ("1",))
    assert end.decision == revoked.decision_id
    assert end.recorded <= end.confirmed
    assert held.looks == [grant] * 3


def test_the_next_eraser_goes_on(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, held: HeldObjects, clock: ManualClock
) -> None:
    """The decision is committed, and the buckets were unavailable until the first one ended."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    assert grant is not None
    held.put(grant, 2 * MAX_OBJECTS + 1)
    revoked = writes.revoke("acct", **OWNER)
    held.is_unavailable = True

    def pass_time() -> bool:
        clock.now += RETRY_S
        return len(held.looks) >= 2

    with deleting(kafka, lane, vault, held, clock) as first:
        run_until("it tries twice", first, pass_time)
        writes.await_confirmed("acct", revoked, timeout_s=0)
    held.is_unavailable = False
    with deleting(kafka, lane, vault, held, clock) as second:
        run_until("the second one finishes", second, lambda: is_finished(second, clock))
        assert second.count == 0
    assert [each.objects for each in ends(kafka, lane)] == [2 * MAX_OBJECTS + 1]
    shown = reports(kafka, lane)
    assert (shown[0], shown[-1][1]) == ((MAX_OBJECTS, MAX_OBJECTS + 1), 0)
    assert {sum(numbers) for numbers in shown} == {2 * MAX_OBJECTS + 1}
    partitions = ledger_partitions(kafka, lane)
    unfinished = UnfinishedErasures(partitions)
    for record in read_all(kafka, erasures_of(lane)):
        unfinished.apply(record)
    assert unfinished.all() == []


@pytest.mark.parametrize("lost", [0, 400])
def test_that_nothing_is_left_is_reported_at_once(
    kafka: KafkaFixture, lane: Lane, lost: int
) -> None:
    """However little time has passed, and also if a pass that failed deleted most of its page."""
    partitions, held = ledger_partitions(kafka, lane), HeldObjects()
    unfinished, grant = UnfinishedErasures(partitions), GrantId(new_upload_id(1, bytes(10)))
    held.put(grant, MAX_OBJECTS + 500)
    held.lost, clock = lost, ManualClock()
    unfinished.apply(marked(kafka, lane, grant))
    shown = {Partition(topic, n) for topic, count in partitions.items() for n in range(count)}
    with closing(Round(kafka, [lane], held, clock)) as own:

        def is_reported() -> bool:
            clock.now = min(clock.now + (RETRY_S if lost else 0), SETTLE_S - 1)
            own.deletions.run_once(unfinished, shown)
            return (MAX_OBJECTS + 500, 0) in reports(kafka, lane)

        eventually("it is reported", is_reported, poll_s=0.2)
    assert reports(kafka, lane) == [(MAX_OBJECTS, 500), (MAX_OBJECTS + 500, 0)]


def test_a_lane_with_many_objects_delays_no_other(kafka: KafkaFixture, lane: Lane) -> None:
    """Lanes take turns, and a new grant goes before one that has had its turn."""
    other = kafka.open_lane()
    held, clock = HeldObjects(), ManualClock()
    partitions = ledger_partitions(kafka, lane) | ledger_partitions(kafka, other)
    unfinished = UnfinishedErasures(partitions)
    crowd = [GrantId(new_upload_id(n, bytes(10))) for n in range(3 * MAX_GRANTS)]
    single = GrantId(new_upload_id(99, bytes(10)))
    for each in crowd:
        held.put(each, 100 * MAX_OBJECTS)
        unfinished.apply(marked(kafka, lane, each))
    unfinished.apply(marked(kafka, other, single))
    shown = {Partition(topic, n) for topic, count in partitions.items() for n in range(count)}
    with closing(Round(kafka, [lane, other], held, clock)) as own:

        def has_looked() -> bool:
            own.deletions.run_once(unfinished, shown)
            # The threads of the crowd may otherwise take many turns before that of the single one.
            futures.wait([each.running for each in own.deletions._works.values() if each.running])
            return single in held.looks

        eventually("the other lane has its turn", has_looked, poll_s=0)
        assert len(held.looks) <= 2 * MAX_GRANTS
        own.deletions.run_once(unfinished, set())


def test_only_entries_in_their_place_open_an_erasure(kafka: KafkaFixture, lane: Lane) -> None:
    """A partition that is still being read opens none either: it may have the end."""
    partitions = ledger_partitions(kafka, lane)
    unfinished, held = UnfinishedErasures(partitions), HeldObjects()
    grant = GrantId(new_upload_id(1, bytes(10)))
    entry = marked(kafka, lane, grant)
    unfinished.apply(entry._replace(key=b"another"))
    assert unfinished.all() == []
    unfinished.apply(entry)
    with closing(Round(kafka, [lane], held, ManualClock())) as own:
        own.deletions.run_once(unfinished, set())
        own.deletions.run_once(unfinished, set())
    assert held.looks == []


def marked(kafka: KafkaFixture, lane: Lane, grant: GrantId) -> Record:
    """Return the record of a marked grant."""
    entry = ErasureEntry(
        id=new_upload_id(0, bytes(10)), time=NOW, lane=lane, account=ACCOUNT, grant=grant
    )
    at, key = place(erasures_of(lane), AccountId(ACCOUNT), ledger_partitions(kafka, lane))
    wire = to_wire(entry, source="/eraser")
    return Record(at, 0, 0, key, wire.headers, wire.value)

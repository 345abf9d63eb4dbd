"""The members of the join in memory: routers and inference workers, some of them deposed.

A router process is the real `Router` with the real state of its consent view, run as the
transactional loop runs it: read, take the mark, wait if the view is behind, decide, commit
all or nothing.
"""

from collections.abc import Callable, Collection, Iterable

from erasestream.pipeline.stages.routing.router import Router
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events.base import Position, utc
from erasestream.schemas.events.images import Cutout, Failure, Retained, Upload
from erasestream.schemas.events.ledger import Finding
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.topic_names import RETAINED, consent_of, ephemeral_of
from erasestream.topics.consent.view import ActiveGrant, ConsentState
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset
from tests.pipeline.stages.routing.join_brokers import (
    CATALOG,
    CONSENT_PARTITIONS,
    LANE,
    PARTITIONS,
    FakeBrokers,
    Source,
)
from tests.pipeline.stages.routing.join_decisions import DecisionCheck, result_in


class FakeConsentView:
    """The view of one router: the real state, behind a log that reaches it late."""

    def __init__(self, brokers: FakeBrokers) -> None:
        self._brokers = brokers
        self._decisions = ConsentState(
            partitions={consent_of(LANE): len(CONSENT_PARTITIONS)}, report=lambda *_: None
        )
        self.arrived = dict.fromkeys(CONSENT_PARTITIONS, 0)
        self.offsets = dict.fromkeys(CONSENT_PARTITIONS, 0)

    def marks(self, lanes: Collection[Lane], *, timeout_s: float) -> dict[Lane, Mark]:
        assert timeout_s > 0
        return {lane: self.mark() for lane in lanes}

    def mark(self) -> Mark:
        return {at: len(self._brokers.consent[at.number]) for at in CONSENT_PARTITIONS}

    def read(self) -> None:
        self.apply_below(self.arrived)

    def applied(self, lane: Lane) -> Mark:
        assert lane == LANE
        return dict(self.offsets)

    def reread(self, lane: Lane) -> None:
        self._decisions.forget(lane)
        self.arrived = dict.fromkeys(CONSENT_PARTITIONS, 0)
        self.offsets = dict.fromkeys(CONSENT_PARTITIONS, 0)

    def apply_below(self, mark: Mark) -> None:
        for at in CONSENT_PARTITIONS:
            for record in self._brokers.consent[at.number][self.offsets[at] : mark[at]]:
                self._decisions.apply(record)
            self.offsets[at] = max(self.offsets[at], mark[at])

    def active_grant(self, lane: Lane, account: AccountId) -> ActiveGrant | None:
        return self._decisions.active_grant(lane, account)

    def mark_of(self, lane: Lane, account: AccountId) -> str:
        assert lane == LANE
        number = partition_of(account.encode(), len(CONSENT_PARTITIONS))
        return f"{number}/{self.offsets[CONSENT_PARTITIONS[number]]}"


class OpenWork:
    """Records and offsets of a router process that are not committed."""

    def __init__(self, brokers: FakeBrokers) -> None:
        self._brokers = brokers
        self._next: dict[Partition, int] = {}
        self._written: list[Outgoing] = []

    def add(self, record: Record, outgoing: Iterable[Outgoing]) -> None:
        self._written += outgoing
        self._next[record.at] = record.offset + 1

    def drop(self) -> None:
        self._next, self._written = {}, []

    def commit(self, metadata: Callable[[Partition], str]) -> None:
        for outgoing in self._written:
            self._publish(outgoing)
        for at, offset in self._next.items():
            self._brokers.commits[at] = StartOffset(offset, metadata(at))
        self.drop()

    def _publish(self, outgoing: Outgoing) -> None:
        if outgoing.topic == ephemeral_of(LANE):
            position = result_in(outgoing).position
            self._brokers.ephemeral.append(
                Source(position.topic_id, position.partition, position.offset)
            )
        elif outgoing.topic == RETAINED:
            event = from_wire(Retained, outgoing.headers, outgoing.value)
            self._brokers.retained[event.id] += 1
        else:
            detail = from_wire(Finding, outgoing.headers, outgoing.value).detail.split()
            topic_id, partition, offset = detail[-1].split("/")
            gap = range(int(offset) - int(detail[0]), int(offset))
            self._brokers.purged |= {Source(topic_id, int(partition), n) for n in gap}


class RouterProcess:
    """One router process, as the transactional loop runs it."""

    def __init__(self, brokers: FakeBrokers, name: str) -> None:
        self._brokers = brokers
        self._name = name
        brokers.members[name] = self  # fences the predecessor of this name
        self.view = FakeConsentView(brokers)
        self.router = Router(
            catalog=CATALOG,
            view=self.view,
            originals=brokers,
            offsets=brokers,
            now=brokers.time,
        )
        self.generation = -1
        self._position: dict[Partition, int] = {}
        self._work = OpenWork(brokers)
        self._unhandled: list[Record] = []
        self._is_fresh = False
        self._mark: Mark = {}
        self._check = DecisionCheck(brokers)

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Join the group, perhaps again: drop what is uncommitted, start from what is committed."""
        self.generation = self._brokers.generation
        starts = {
            at: self._brokers.commits[at].within(self._brokers.cutouts_start[at.number])
            for at in partitions
        }
        self.router.on_assigned(starts)
        self._position = {at: start.offset for at, start in starts.items()}
        self._work.drop()
        self._unhandled = []

    def read(self, most: int) -> None:
        """Make a small read, then take the mark."""
        self.handle()
        starts = self._brokers.cutouts_start
        if any(position < starts[at.number] for at, position in self._position.items()):
            # Its next records are deleted: it gets an error, ends, and starts again.
            partitions = list(self._position)
            self._end()
            if self.is_member:
                self.assign(partitions)
        for at, position in self._position.items():
            found = self._brokers.cutouts[at.number][position : position + most]
            self._position[at] += len(found)
            self._unhandled += found
        if self._unhandled:
            self._check.take_mark()
            self._mark = self.view.mark()
            self.router.on_read({record.at for record in self._unhandled})
            self._is_fresh = all(self.router.is_ready(each.at) for each in self._unhandled)

    def handle(self) -> None:
        """Decide what was read; a deposed process may break an invariant, and then ends."""
        try:
            self._handle()
        except InvariantBroken:
            if self.is_member:
                raise
            self._end()

    def _end(self) -> None:
        self._work.drop()
        self._unhandled, self._position = [], {}

    def _handle(self) -> None:
        # If the view was behind, earlier decisions are committed before it is waited for.
        if self._unhandled and not self._is_fresh:
            if not self.commit():
                return
            self.view.apply_below(self._mark)
            assert all(self.router.is_ready(each.at) for each in self._unhandled)
        for record in self._unhandled:
            outgoing = self.router.handle(record)
            self._check.check(record, outgoing)
            self._work.add(record, outgoing)
        self._unhandled = []

    @property
    def is_member(self) -> bool:
        """Whether the brokers accept commits of this process."""
        is_current = self.generation == self._brokers.generation
        return is_current and self._brokers.members[self._name] is self

    def commit(self) -> bool:
        """Commit all or nothing; a deposed process commits nothing, and ends."""
        if not self.is_member:
            self._end()
            return False
        self._work.commit(self.router.offset_metadata)
        return True


class InferenceWorker:
    """One inference worker: a gap-free run from at or below the committed offset."""

    def __init__(self, brokers: FakeBrokers, number: int, start: int) -> None:
        self._brokers = brokers
        self.number = number
        self._next = start
        self.done = start
        self._batch: list[tuple[str, Record]] = []

    def read(self, most: int) -> None:
        """Read a batch; the topic's id is asked for after reading."""
        log = self._brokers.uploads[self.number]
        self._next = max(self._next, self._brokers.uploads_start[self.number])
        taken = log[self._next : self._next + most]
        self._next += len(taken)
        self._batch += [(self._brokers.topic_id, record) for record in taken]

    def append(self) -> None:
        """Append the next result; every fifth is a failure."""
        if not self._batch:
            return
        topic_id, record = self._batch.pop(0)
        upload = from_wire(Upload, record.headers, record.value)
        common = {
            "id": upload.id,
            "time": self._brokers.time(),
            "account": upload.account,
            "position": Position(topic_id=topic_id, partition=self.number, offset=record.offset),
            "uploaded_at": utc(record.appended_ms),
        }
        event: Cutout | Failure
        if record.offset % 5 == 4:
            event = Failure(**common, code="undecodable", sentence="No picture.")
        else:
            event = Cutout(
                **common,
                content_type="image/png",
                model="tiny",
                model_sha256="0" * 64,
                model_version="1",
                data=b"cutout",
            )
        log = self._brokers.cutouts[self.number]
        log.append(self._brokers.record(PARTITIONS[self.number], len(log), None, event))
        self.done = record.offset + 1

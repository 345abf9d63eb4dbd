"""States of partitions that are read on from the last question, on a real broker."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import pytest

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.events.consent import HEARTBEAT_KEY
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import OPERATOR, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer import cached_partition_state
from erasestream.topics.kafka.consumer.cached_partition_state import CachedPartitionState
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.consumer.partition_reader import PartitionReader
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import OWNER, writer


class AppliedOffsets:
    """A state: the offsets of all applied records."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.fails_at: int | None = None

    def apply(self, record: Record) -> None:
        if record.offset == self.fails_at:
            raise Unavailable("applying fails")
        self.offsets.append(record.offset)


Write = Callable[[], int]


@pytest.fixture
def at(lane: Lane) -> Partition:
    return Partition(consent_of(lane), 1)


@pytest.fixture
def write(kafka: KafkaFixture, lane: Lane, at: Partition) -> Iterator[Write]:
    """Return a function that appends a record and returns its offset."""
    connection = kafka.connection(lane_role(lane, LaneRole.ACCOUNT))
    wire = Wire(headers=[], value=b"beat")
    with closing(AcknowledgedWriter(connection=connection, timeout_s=20)) as writer:
        yield lambda: writer.write(at, HEARTBEAT_KEY, wire).offset


class Queries(NamedTuple):
    """Answers of the brokers that the test chooses."""

    log_end: Callable[[Partition], int]
    topic_ids: Callable[[Iterable[str]], dict[str, str]]


class Replaying(PartitionReader):
    """Reads from the log start, as a client does whose offset is out of range."""

    def read(
        self,
        at: Partition,
        apply: Callable[[Record], None],
        *,
        begin: Mark | None = None,
        end: Mark | None = None,
        deadline_s: float,
    ) -> Mark:
        del begin
        return super().read(at, apply, end=end, deadline_s=deadline_s)


class Opened:
    """Cached states of one partition, with an operator's rights, and what they read with."""

    def __init__(self, connection: Connection, at: Partition, admin: Admin) -> None:
        self._connection, self._at = connection, at
        self.offsets = OffsetQueries(admin)
        self.readers: list[PartitionReader] = []

    def state(
        self,
        log_end: Callable[[Partition], int] | None = None,
        reader: type[PartitionReader] = PartitionReader,
        deadline_s: float = 20,
    ) -> CachedPartitionState[AppliedOffsets]:
        self.readers.append(reader(self._connection))
        return CachedPartitionState(
            self.readers[-1],
            self._at,
            make=AppliedOffsets,
            queries=Queries(log_end or self.offsets.log_end, self.offsets.topic_ids),
            deadline_s=deadline_s,
        )


@pytest.fixture
def opened(kafka: KafkaFixture, at: Partition) -> Iterator[Opened]:
    connection = kafka.connection(OPERATOR)
    with Admin(connection) as admin:
        opened = Opened(connection, at, admin)
        yield opened
        for reader in opened.readers:
            reader.close()


def test_a_question_reads_the_new_records(opened: Opened, at: Partition, write: Write) -> None:
    """Every record once, and all that were acknowledged before the question."""
    state = opened.state()
    with state.now() as (applied, mark):
        assert (applied.offsets, mark) == ([], {at: 0})
    for count in (2, 1, 0, 3):
        for _ in range(count):
            last = write()
        with state.now() as (applied, mark):
            assert applied.offsets == list(range(last + 1))
            assert mark == {at: last + 1}


def test_a_failed_read_is_repeated(opened: Opened, write: Write) -> None:
    """From the end of the last question that was answered."""
    state = opened.state()
    write()
    with state.now() as (applied, _):
        applied.fails_at = 2
    write(), write()
    with pytest.raises(Unavailable), state.now():
        pass
    applied.fails_at = None
    with state.now() as (applied, _):
        assert applied.offsets == [0, 1, 1, 2]


def test_a_log_end_before_the_read_records_is_unavailable(opened: Opened, write: Write) -> None:
    """A deposed leader answers so; the state keeps what was read."""
    ends = iter([3, 1, 4])
    state = opened.state(lambda _at: next(ends))
    for _ in range(3):
        write()
    with state.now() as (applied, _):
        assert applied.offsets == [0, 1, 2]
    with pytest.raises(Unavailable, match="ends before"), state.now():
        pass
    write()
    with state.now() as (applied, _):
        assert applied.offsets == [0, 1, 2, 3]


def test_records_read_twice_are_applied_once(opened: Opened, write: Write) -> None:
    """The client began at the log start, since a leader did not have the offset yet."""
    state = opened.state(reader=Replaying)
    for count in (1, 2, 3):
        write()
        with state.now() as (applied, _):
            assert applied.offsets == list(range(count))


def test_a_topic_that_was_created_again_is_read_from_its_start(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """No account stays opted in by a deleted decision."""
    with (
        closing(writer(kafka, lane)) as consent,
        closing(ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)) as reader,
    ):
        consent.grant("acct", **OWNER)
        assert reader.active_grant("acct")
        kafka.delete_topic(consent_of(lane))
        kafka.provision(kafka.catalog())

        def is_reset() -> bool:
            try:
                return reader.active_grant("acct") is None
            except (Unavailable, Refused):  # the leader, or the topic, is not known yet
                return False

        eventually("no decision is left", is_reset)


def test_concurrent_questions_see_all_earlier_records(opened: Opened, write: Write) -> None:
    state = opened.state()
    lock = threading.Lock()

    def ask(_number: int) -> None:
        with lock:
            last = write()
        with state.now() as (applied, _):
            assert last in applied.offsets
            once = list(dict.fromkeys(applied.offsets))  # the last of a read may come again
            assert once == list(range(len(once)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(200)))


class ReportingClock:
    """The real clock; reports every reading."""

    def __init__(self, on_reading: Callable[[], None]) -> None:
        self._on_reading = on_reading

    def monotonic(self) -> float:
        now_s = time.monotonic()
        self._on_reading()
        return now_s


def test_waiting_questions_share_the_next_read(
    opened: Opened, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next read began after all of them were asked."""
    log_end = opened.offsets.log_end
    is_asked, may_ask, waiting = threading.Event(), threading.Event(), threading.Semaphore(0)
    questions: list[int] = []

    def slow(at: Partition) -> int:
        questions.append(1)
        is_asked.set()
        may_ask.wait(120)
        return log_end(at)

    state = opened.state(slow)
    monkeypatch.setattr(cached_partition_state, "time", ReportingClock(waiting.release))

    def ask() -> list[int]:
        with state.now() as (applied, _):
            return list(applied.offsets)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(ask)
        assert is_asked.wait(120)
        write()
        others = [pool.submit(ask) for _ in range(4)]
        for _ in range(len(others) + 2):  # the first has read the clock twice
            assert waiting.acquire(timeout=120)
        may_ask.set()
        assert [each.result(20) for each in others] == [[0]] * 4
        assert first.result(20) in ([], [0])
    assert len(questions) == 2


def test_waiting_for_another_question_ends_at_the_deadline(opened: Opened) -> None:
    state = opened.state(deadline_s=0.1)
    with state.now(), pytest.raises(Unavailable, match="too many questions"), state.now():
        pass

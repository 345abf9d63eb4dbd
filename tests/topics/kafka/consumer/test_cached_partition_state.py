"""Partitions that are read on from where the last question left them, on a real broker."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
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


class Told:
    """All that was applied."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.fails_at: int | None = None

    def apply(self, record: Record) -> None:
        """Note it."""
        if record.offset == self.fails_at:
            raise Unavailable("what reads")
        self.offsets.append(record.offset)


Write = Callable[[], int]


@pytest.fixture
def at(lane: Lane) -> Partition:
    """Some partition."""
    return Partition(consent_of(lane), 1)


@pytest.fixture
def write(kafka: KafkaFixture, lane: Lane, at: Partition) -> Write:
    """Appends a record there; its offset."""
    role = lane_role(lane, LaneRole.ACCOUNT)
    writes = AcknowledgedWriter(connection=kafka.connection(role), timeout_s=20)
    wire = Wire(headers=[], value=b"beat")
    return lambda: writes.write(at, HEARTBEAT_KEY, wire).offset


class Asked(NamedTuple):
    """Brokers that say of a partition how far it reaches as the test wants it."""

    log_end: Callable[[Partition], int]
    topic_ids: Callable[[Iterable[str]], dict[str, str]]


class Replaying(PartitionReader):
    """Always from the beginning, as a client does that is told that its place is not there."""

    def read(
        self,
        at: Partition,
        apply: Callable[[Record], None],
        *,
        begin: Mark | None = None,
        end: Mark | None = None,
        deadline_s: float,
    ) -> Mark:
        """Read all."""
        del begin
        return super().read(at, apply, end=end, deadline_s=deadline_s)


def followed(
    kafka: KafkaFixture,
    at: Partition,
    log_end: Callable[[Partition], int] | None = None,
    reads: type[PartitionReader] = PartitionReader,
) -> CachedPartitionState[Told]:
    """It, as an operator reads it."""
    connection = kafka.connection(OPERATOR)
    offsets = OffsetQueries(Admin(connection))
    asked = Asked(log_end or offsets.log_end, offsets.topic_ids)
    return CachedPartitionState(reads(connection), at, make=Told, queries=asked, deadline_s=20)


def test_a_question_reads_what_is_new(kafka: KafkaFixture, at: Partition, write: Write) -> None:
    """Every record once, and all that was acknowledged before the question."""
    follows = followed(kafka, at)
    with follows.now() as (told, mark):
        assert (told.offsets, mark) == ([], {at: 0})
    for count in (2, 1, 0, 3):
        for _ in range(count):
            last = write()
        with follows.now() as (told, mark):
            assert told.offsets == list(range(last + 1))
            assert mark == {at: last + 1}


def test_what_failed_half_way_is_read_again(
    kafka: KafkaFixture, at: Partition, write: Write
) -> None:
    """From where the last question that was answered ended."""
    follows = followed(kafka, at)
    write()
    with follows.now() as (told, _):
        told.fails_at = 2
    write(), write()
    with pytest.raises(Unavailable), follows.now():
        pass
    told.fails_at = None
    with follows.now() as (told, _):
        assert told.offsets == [0, 1, 1, 2]


def test_a_leader_that_has_less_is_not_believed(
    kafka: KafkaFixture, at: Partition, write: Write
) -> None:
    """It was deposed and does not know that; what was read stands."""
    ends = iter([3, 1, 4])
    follows = followed(kafka, at, lambda _at: next(ends))
    for _ in range(3):
        write()
    with follows.now() as (told, _):
        assert told.offsets == [0, 1, 2]
    with pytest.raises(Unavailable, match="ends before"), follows.now():
        pass
    write()
    with follows.now() as (told, _):
        assert told.offsets == [0, 1, 2, 3]


def test_what_comes_again_changes_nothing(kafka: KafkaFixture, at: Partition, write: Write) -> None:
    """The client began at the beginning, since a leader did not know the place yet."""
    follows = followed(kafka, at, reads=Replaying)
    for count in (1, 2, 3):
        write()
        with follows.now() as (told, _):
            assert told.offsets == list(range(count))


def test_a_topic_that_was_made_anew_is_read_anew(kafka: KafkaFixture, lane: Lane) -> None:
    """Nobody stays opted in by a decision that is gone."""
    writes = writer(kafka, lane)
    writes.grant("acct", **OWNER)
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    assert reader.active_grant("acct")
    kafka.delete_topic(consent_of(lane))
    kafka.provision(kafka.catalog())

    def is_forgotten() -> bool:
        try:
            return reader.active_grant("acct") is None
        except (Unavailable, Refused):  # its leader, or the topic, is not known yet
            return False

    eventually("its decisions are gone", is_forgotten)


def test_many_ask_at_once(kafka: KafkaFixture, at: Partition, write: Write) -> None:
    """Each is told of all that was acknowledged before its question."""
    follows = followed(kafka, at)
    lock = threading.Lock()

    def ask(_number: int) -> None:
        with lock:
            last = write()
        with follows.now() as (told, _):
            assert told.offsets == list(range(len(told.offsets)))
            assert last in told.offsets

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(200)))


class Clock:
    """The real one; it says when somebody takes the time."""

    def __init__(self, taken: Callable[[], None]) -> None:
        self._taken = taken

    def monotonic(self) -> float:
        """Seconds that only grow."""
        now_s = time.monotonic()
        self._taken()
        return now_s


def test_those_who_wait_are_answered_together(
    kafka: KafkaFixture, at: Partition, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the question that is asked next, since it is newer than all of theirs."""
    log_end = OffsetQueries(Admin(kafka.connection(OPERATOR))).log_end
    is_asked, may_ask, waiting = threading.Event(), threading.Event(), threading.Semaphore(0)
    questions: list[int] = []

    def slow(at: Partition) -> int:
        questions.append(1)
        is_asked.set()
        may_ask.wait(20)
        return log_end(at)

    follows = followed(kafka, at, slow)
    monkeypatch.setattr(cached_partition_state, "time", Clock(waiting.release))

    def ask() -> list[int]:
        with follows.now() as (told, _):
            return list(told.offsets)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(ask)
        assert is_asked.wait(20)
        write()
        others = [pool.submit(ask) for _ in range(4)]
        for _ in range(len(others) + 2):  # the first has taken the time twice
            assert waiting.acquire(timeout=20)
        may_ask.set()
        assert [each.result(20) for each in others] == [[0]] * 4
        assert first.result(20) in ([], [0])
    assert len(questions) == 2


def test_who_waits_for_others_is_told_so_in_time(kafka: KafkaFixture, at: Partition) -> None:
    """While one question is asked, another about the same partition waits, and not for ever."""
    follows = followed(kafka, at)
    follows._deadline_s = 0.1
    with follows.now(), pytest.raises(Unavailable, match="too many questions"), follows.now():
        pass

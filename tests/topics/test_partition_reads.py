"""Partitions that are read on from where the last question left them, on a real broker."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from erasestream.schemas.cloudevents import Wire
from erasestream.schemas.consent import HEARTBEAT_KEY
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog import OPERATOR, LaneRole, consent_of, lane_role
from erasestream.topics.consent import ConsentReader
from erasestream.topics.partition_reads import Followed, PartitionReads
from erasestream.topics.record import Partition, Record
from erasestream.topics.single_writes import SingleWrites
from tests.flow.waiting import eventually
from tests.topics.conftest import Market
from tests.topics.deciding import OWNER, writer


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
def write(market: Market, lane: Lane, at: Partition) -> Write:
    """Appends a record there; its offset."""
    role = lane_role(lane, LaneRole.ACCOUNT)
    writes = SingleWrites(connection=market.connection(role), timeout_s=20)
    wire = Wire(headers=[], value=b"beat")
    return lambda: writes.write(at, HEARTBEAT_KEY, wire).offset


def followed(
    market: Market, at: Partition, log_end: Callable[[Partition], int] | None = None
) -> Followed[Told]:
    """It, as an operator reads it."""
    connection = market.connection(OPERATOR)
    return Followed(
        PartitionReads(connection),
        at,
        make=Told,
        log_end=log_end or connection.admin().log_end,
        deadline_s=20,
    )


def test_a_question_reads_what_is_new(market: Market, at: Partition, write: Write) -> None:
    """Every record once, and all that was acknowledged before the question."""
    follows = followed(market, at)
    with follows.now() as (told, mark):
        assert (told.offsets, mark) == ([], {at: 0})
    for count in (2, 1, 0, 3):
        for _ in range(count):
            last = write()
        with follows.now() as (told, mark):
            assert told.offsets == list(range(last + 1))
            assert mark == {at: last + 1}


def test_what_failed_half_way_is_read_again(market: Market, at: Partition, write: Write) -> None:
    """From where the last question that was answered ended."""
    follows = followed(market, at)
    write()
    with follows.now() as (told, _):
        told.fails_at = 2
    write(), write()
    with pytest.raises(Unavailable), follows.now():
        pass
    told.fails_at = None
    with follows.now() as (told, _):
        assert told.offsets == [0, 1, 1, 2]


def test_a_partition_that_has_less_is_read_from_its_beginning(
    market: Market, at: Partition, write: Write
) -> None:
    """A leader that was deposed says where it ended before."""
    ends = iter([3, 1, 3])
    follows = followed(market, at, lambda _at: next(ends))
    for _ in range(3):
        write()
    for count in (3, 1, 3):
        with follows.now() as (told, _):
            assert told.offsets[:count] == list(range(count))
            assert len(told.offsets) >= count


def test_a_topic_that_was_made_anew_is_read_anew(market: Market, lane: Lane) -> None:
    """Nobody stays opted in by a decision that is gone."""
    writes = writer(market, lane)
    writes.grant("acct", **OWNER)
    reader = ConsentReader(connection=market.connection(OPERATOR), lane=lane)
    assert reader.standing("acct")
    topic, client = consent_of(lane), market.admin.client
    client.delete_topics([topic])[topic].result(20)
    eventually("it is gone", lambda: topic not in market.admin.partition_counts())
    market.provision(market.catalog())

    def is_forgotten() -> bool:
        try:
            return reader.standing("acct") is None
        except Unavailable:  # its leader is not known yet
            return False

    eventually("its decisions are gone", is_forgotten)


def test_many_ask_at_once(market: Market, at: Partition, write: Write) -> None:
    """Each is told of all that was acknowledged before its question."""
    follows = followed(market, at)
    lock = threading.Lock()

    def ask(_number: int) -> None:
        with lock:
            last = write()
        with follows.now() as (told, _):
            assert told.offsets == list(range(len(told.offsets)))
            assert last in told.offsets

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(200)))


def test_those_who_wait_are_answered_together(market: Market, at: Partition, write: Write) -> None:
    """By the question that is asked next, since it is newer than all of theirs."""
    log_end = market.connection(OPERATOR).admin().log_end
    asked, may_ask = threading.Semaphore(0), threading.Event()
    questions: list[int] = []

    def slow(at: Partition) -> int:
        questions.append(1)
        asked.release()
        may_ask.wait(20)
        return log_end(at)

    follows = followed(market, at, slow)

    def ask() -> list[int]:
        with follows.now() as (told, _):
            return list(told.offsets)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(ask)
        assert asked.acquire(timeout=20)
        write()
        others = [pool.submit(ask) for _ in range(4)]
        eventually("they wait", lambda: all(each.running() for each in others))
        may_ask.set()
        assert [each.result(20) for each in others] == [[0]] * 4
        assert first.result(20) in ([], [0])
    assert len(questions) < 1 + len(others)


def test_who_waits_for_others_is_told_so_in_time(market: Market, at: Partition) -> None:
    """While one question is asked, another about the same partition waits, and not for ever."""
    follows = followed(market, at)
    follows._deadline_s = 0.1
    with follows.now(), pytest.raises(Unavailable, match="many ask"), follows.now():
        pass

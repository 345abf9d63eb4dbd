"""What the exactly-once loop does not do: decide by old news, commit half a decision, run hot."""

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from erasestream.schemas.errors import InvariantBroken, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of
from erasestream.topics.kafka.backoff import MAX_PAUSE_S, pause_s
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.loop import MAX_OPEN_S, TransactionalLoop
from erasestream.topics.kafka.transaction.start_offsets import (
    WAIT_S,
    StaleGeneration,
    StartOffset,
    StartOffsets,
)
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture, opened_kafka
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness
from tests.topics.kafka.transaction.copying import Copy

VALUES = [b"one", b"two", b"three", b"four", b"five"]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """A broker of this module's own: nobody else is in the routers' group."""
    with opened_kafka(tmp_path_factory.mktemp("limits")) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def lanes(kafka: KafkaFixture) -> Iterator[Lane]:
    """Lanes that were made before any loop ran; each test takes one."""
    return iter(kafka.open_lanes(4))


@pytest.fixture
def bench(kafka: KafkaFixture, lanes: Iterator[Lane]) -> Iterator[KafkaRouterHarness]:
    """A lane of the test's own, with something to read."""
    bench = KafkaRouterHarness(kafka, next(lanes))
    producer = Producer(kafka.connection(ADMIN).settings(ClientErrorState()))
    for value in VALUES:
        producer.produce(cutouts_of(bench.lane), value, None, 0)
    assert producer.flush(20) == 0
    yield bench
    bench.close()


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


def loop_of(
    bench: KafkaRouterHarness,
    handler: Copy,
    *,
    stopping: threading.Event | None = None,
    clock: Clock | None = None,
) -> TransactionalLoop:
    """A loop over the lane's cut-outs, started."""
    loop = TransactionalLoop(
        connection=bench.kafka.connection(ROUTER),
        topics=[cutouts_of(bench.lane)],
        instance=f"of-{bench.lane}",
        handler=handler,
        stopping=stopping or threading.Event(),
        clock=clock or Clock(),
    )
    loop.start()
    return loop


def run_to_the_end(loop: TransactionalLoop, copy: Copy) -> None:
    """Until everything is handled."""

    def all_is_handled() -> bool:
        loop.run_once()
        return VALUES[-1] in copy.handled

    eventually("all is handled", all_is_handled, deadline_s=60, poll_s=0)


class Slow(Copy):
    """Takes longer for each record than a transaction may be open."""

    def __init__(self, to: str, clock: Clock) -> None:
        super().__init__(to)
        self.ages_s: list[float] = []
        self._clock = clock
        self._asked_s = 0.0

    def is_ready(self) -> bool:
        """Whether there are news is asked now."""
        self._asked_s = self._clock()
        return super().is_ready()

    def between(self, record: Record) -> None:
        """Time passes."""
        assert record.value
        self.ages_s.append(self._clock() - self._asked_s)
        self._clock.now_s += MAX_OPEN_S + 1


def test_no_decision_is_much_older_than_its_news(bench: KafkaRouterHarness) -> None:
    """In the midst of a read it is committed and asked again, for every record if need be."""
    clock = Clock()
    slow = Slow(ephemeral_of(bench.lane), clock)
    loop = loop_of(bench, slow, clock=clock)
    try:
        run_to_the_end(loop, slow)
    finally:
        loop.close()
    assert max(slow.ages_s) <= MAX_OPEN_S
    assert [record.value for record in bench.records(ephemeral_of(bench.lane), 2)] == VALUES


class Breaking(Copy):
    """Ends in the midst of a decision."""

    def between(self, record: Record) -> None:
        """Once something is decided and half of the next is written."""
        if record.value == VALUES[2]:
            raise InvariantBroken("on purpose")


def test_half_a_decision_is_never_committed(bench: KafkaRouterHarness) -> None:
    """Neither by leaving in good order after an error that nobody expected."""
    breaking = Breaking(ephemeral_of(bench.lane))
    loop = loop_of(bench, breaking)
    with pytest.raises(InvariantBroken, match="on purpose"):
        run_to_the_end(loop, breaking)
    loop.close()
    assert VALUES[2] not in [record.value for record in bench.records(ephemeral_of(bench.lane), 2)]
    copy = Copy(ephemeral_of(bench.lane))
    successor = loop_of(bench, copy)
    try:
        run_to_the_end(successor, copy)
    finally:
        successor.close()
    assert [record.value for record in bench.records(ephemeral_of(bench.lane), 2)] == VALUES


def test_an_answer_about_another_place_ends_nothing(bench: KafkaRouterHarness) -> None:
    """Reading begins again where it was to begin, and nothing is missing or there twice."""
    copy = Copy(ephemeral_of(bench.lane))
    loop = loop_of(bench, copy)

    def is_about_to_begin() -> bool:
        loop.run_once()
        return loop.has_partitions

    try:
        eventually("it has its partitions", is_about_to_begin, deadline_s=60, poll_s=0)
        assert copy.handled == []
        loop._consumer.assign([TopicPartition(cutouts_of(bench.lane), 0, 1_000_000)])
        run_to_the_end(loop, copy)
    finally:
        loop.close()
    assert copy.handled == VALUES
    assert [record.value for record in bench.records(ephemeral_of(bench.lane), 2)] == VALUES


class Refusing(Copy):
    """Can not decide one record for a while."""

    def __init__(self, to: str, times: int) -> None:
        super().__init__(to)
        self._times = times

    def between(self, record: Record) -> None:
        """Something is away that it needs."""
        if record.value == VALUES[2] and self._times:
            self._times -= 1
            raise Unavailable("on purpose")


class Pauses(threading.Event):
    """Is never set, notes what is waited for, and takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_s: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        """At once."""
        self.asked_s.append(timeout)
        return False


def test_what_is_refused_again_and_again_does_not_run_hot(bench: KafkaRouterHarness) -> None:
    """There is a rest after each abort, longer each time until something is committed."""
    pauses = Pauses()
    copy = Refusing(ephemeral_of(bench.lane), times=5)
    loop = loop_of(bench, copy, stopping=pauses)
    try:
        run_to_the_end(loop, copy)
    finally:
        loop.close()
    rests = [each for each in pauses.asked_s if each != WAIT_S]
    assert rests == [pause_s(number) for number in range(1, 6)]
    assert [record.value for record in bench.records(ephemeral_of(bench.lane), 2)] == VALUES


def test_rests_grow_up_to_a_bound() -> None:
    """The first is none."""
    rests = [pause_s(number) for number in range(1, 100)]
    assert rests[0] == 0
    assert rests == sorted(rests)
    assert rests[-1] == MAX_PAUSE_S


class Member:
    """What `StartOffsets` needs of a consumer whose group has moved on."""

    def __init__(self, code: int) -> None:
        self._error = KafkaError(code)

    def committed(self, asked: list[TopicPartition], _timeout_s: float) -> list[TopicPartition]:
        """Nothing yet."""
        return asked

    def commit(self, **_: object) -> list[TopicPartition]:
        """Refused by the group."""
        raise KafkaException(self._error)


@pytest.mark.parametrize("code", [KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID])
def test_a_member_that_the_group_left_behind_joins_again(code: int, kafka: KafkaFixture) -> None:
    """It is no fault of the set-up if there is another generation before a partition is begun."""
    starts = StartOffsets(
        consumer=Member(code),  # type: ignore[arg-type]
        offsets=kafka.offsets,
        initial_offset=lambda _at: StartOffset(0, ""),
        stopping=threading.Event(),
        watch=ClientErrorState(),
    )
    with pytest.raises(StaleGeneration):
        starts.of([Partition("cutouts.any", 0)])

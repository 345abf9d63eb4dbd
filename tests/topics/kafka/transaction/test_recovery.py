"""How the exactly-once loop recovers: what it undoes, what it repeats, and when it ends."""

import logging
import threading
from collections.abc import Iterable, Iterator

import pytest
from confluent_kafka import Consumer

from erasestream.schemas.errors import Fenced
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES, cutouts_of, ephemeral_of
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.counters import TransactionCounters
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from erasestream.topics.kafka.transaction.producer import TransactionalProducer
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture, opened_kafka
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness
from tests.topics.kafka.transaction.copying import Copy

VALUES = [b"one", b"two", b"three"]


class Spoilt(Copy):
    """At first writes after the last record one that no broker would take."""

    def __init__(self, to: str, *, spoilt: int) -> None:
        super().__init__(to)
        self._spoilt = spoilt

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """The same, in another topic, and for some times what is too large."""
        yield from super().handle(record)
        if self._spoilt and record.value == VALUES[-1]:
            self._spoilt -= 1
            yield Outgoing(self._to, record.at.number, None, [], bytes(MAX_RECORD_BYTES))


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """A broker of this module's own: nobody else is in the routers' group."""
    with opened_kafka(tmp_path_factory.mktemp("transactions")) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def lanes(kafka: KafkaFixture) -> Iterator[Lane]:
    """Lanes that were made before any router ran; each test takes one."""
    return iter(kafka.open_lanes(3))


@pytest.fixture
def bench(kafka: KafkaFixture, lanes: Iterator[Lane]) -> Iterator[KafkaRouterHarness]:
    """A lane of the test's own."""
    bench = KafkaRouterHarness(kafka, next(lanes))
    yield bench
    bench.close()


def test_a_record_that_is_refused_undoes_its_transaction(bench: KafkaRouterHarness) -> None:
    """Half of what was decided is never delivered: all of it is undone, and decided again."""
    bench.put(cutouts_of(bench.lane), VALUES)
    copy = Spoilt(ephemeral_of(bench.lane), spoilt=2)
    loop = TransactionalLoop(
        connection=bench.kafka.connection(ROUTER),
        topics=[cutouts_of(bench.lane)],
        instance="copy",
        handler=copy,
        stopping=threading.Event(),
    )
    loop.start()
    try:

        def all_is_committed() -> bool:
            loop.run_once()
            return loop.counters.records == len(VALUES)

        eventually("all is committed", all_is_committed, poll_s=0)
    finally:
        loop.close()
    written = [record.value for record in bench.records(ephemeral_of(bench.lane), 2)]
    assert written == VALUES
    assert loop.counters.aborted == 2
    assert copy.handled.count(VALUES[-1]) == 3


class Hasty(Connection):
    """A connection whose transactions may be open for a second."""

    def settings(self, watch: ClientErrorState, **more: object) -> Settings:
        """The settings, but for that."""
        if "transaction_timeout_ms" in more:
            more = {**more, "transaction_timeout_ms": 1000, "message_timeout_ms": 1000}
        return super().settings(watch, **more)


def test_a_transaction_that_the_brokers_ended_ends_the_process(bench: KafkaRouterHarness) -> None:
    """It was open for too long: nothing of it is delivered, and a successor decides anew."""
    at = Partition(ephemeral_of(bench.lane), 0)
    writes = TransactionalProducer(
        connection=Hasty(cluster=bench.kafka.cluster, role=ROUTER),
        instance="slow",
        stopping=threading.Event(),
        watch=ClientErrorState(),
    )
    writes.start()
    writes.begin()
    writes.write(Outgoing(at.topic, at.number, None, [], b"too late"))

    def ended_by_the_brokers() -> bool:
        writes.serve()
        end = bench.kafka.offsets.log_end(at)
        return end > 1  # the record, and the marker of a transaction's end

    eventually("the brokers end it", ended_by_the_brokers, poll_s=0.3)
    nobody = Consumer(bench.kafka.connection(ROUTER).settings(ClientErrorState(), group_id=ROUTER))
    with pytest.raises(Fenced):
        writes.commit([], nobody)
    nobody.close()
    assert bench.records(at.topic, 2) == []


def test_the_sums_are_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Each that is undone at once; of the others the sums, every ten seconds and at the end."""
    now = [0.0]
    tally = TransactionCounters(clock=lambda: now[0])
    caplog.set_level(logging.INFO)
    tally.commit(3)
    tally.abort("partitions_revoked")
    now[0] = 11.0
    tally.commit(4)
    tally.say()
    said = [(r.message, r.__dict__.get("count"), r.committed, r.aborted) for r in caplog.records]  # type: ignore[attr-defined]
    assert said == [("transaction_aborted", None, 1, 1), ("transactions", 7, 2, 1)]


def test_a_router_that_comes_back_disturbs_no_other(bench: KafkaRouterHarness) -> None:
    """A static member keeps its partitions while it is away, and nothing is assigned anew."""
    stays, goes = (bench.router(instance=name) for name in ("stays", "goes"))
    both = (stays, goes)

    def shared() -> bool:
        for each in both:
            each.loop.run_once()
        return all(each.loop.has_partitions for each in both)

    eventually("each has a partition", shared, deadline_s=40, poll_s=0)
    before = stays.loop._assignments
    goes.close()
    comes_back = bench.router(instance="goes")
    done = [bench.process(number) for number in (0, 1)]

    def routed() -> bool:
        for each in (stays, comes_back):
            each.loop.run_once()
        return set(bench.seen()) >= set(done)

    eventually("both partitions are routed", routed, deadline_s=40, poll_s=0)
    assert stays.loop._assignments == before

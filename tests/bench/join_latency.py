"""From the append of a result to its delivery, and what the barrier adds to a batch."""

import threading
import time
from collections.abc import Iterator
from statistics import quantiles
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from erasestream.pipeline.stages.routing.router import Router, topics_of
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.ids import AccountId
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Record
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from tests.bench.figures import Figure
from tests.bench.join_harness import OURS, SHOP, Contender, EncodedRecord, JoinHarness, picture
from tests.bench.join_opted_in import decide
from tests.bench.join_streams import start_streams

RATE = 20
IMAGE_BYTES = 100_000
WARM_UP = 60
COUNT = 240
TURNS = 2
WAIT_S = 60.0
CONNECTED_S = 1.0
LOOK_EVERY_S = 0.05

DECISIONS_PER_S = 20
BARRIER_RESULTS = 2000
BARRIER_ROUNDS = 3


def measure(bed: JoinHarness, streams: Contender) -> Iterator[Figure]:
    """Ours and that of Kafka Streams, in turn."""
    router, peer = bed.start_router(), start_streams(bed, streams)
    found: dict[str, list[float]] = {"": [], "streams_": []}
    for count in (WARM_UP, *[COUNT] * TURNS):
        results = bed.results(SHOP, count, picture(IMAGE_BYTES))
        ours, theirs = _latencies(bed, OURS, results), _latencies(bed, streams, results)
        if count == COUNT:
            found[""] += ours
            found["streams_"] += theirs
    for process in (router, peer):
        process.stop(grace_s=15)
    goals = {"latency_p50": 10.0, "latency_p99": 30.0}
    for whose, values in found.items():
        yield from _percentiles(f"{whose}latency", values, goals if not whose else {})


def _percentiles(
    name: str, values: list[float], goals: dict[str, float] | None = None
) -> Iterator[Figure]:
    cuts = quantiles(values, n=100)
    for each, value in ((f"{name}_p50", cuts[49]), (f"{name}_p99", cuts[98])):
        goal = (goals or {}).get(each)
        yield Figure(
            f"join.{each}_ms",
            round(value, 2),
            "ms",
            None if goal is None else f"<= {goal:g}",
            None if goal is None else value <= goal,
            n=len(values),
        )


def _latencies(bed: JoinHarness, contender: Contender, results: list[EncodedRecord]) -> list[float]:
    """Milliseconds from the broker's append of a result until a customer has it."""
    appended: dict[bytes, int] = {}
    taken: dict[bytes, float] = {}
    customer = _customer(bed, contender.target)
    count = len(results)
    begun, sent = time.monotonic(), 0
    try:
        while len(taken) < count or len(appended) < count:
            if sent < count and time.monotonic() >= begun + sent / RATE:
                _send(bed, contender, results[sent], appended)
                sent += 1
            bed.plain.poll(0)
            message = customer.poll(0.002)
            if message is not None and message.error() is None:
                taken[_id(message)] = time.time() * 1000
            if time.monotonic() - begun > WAIT_S:
                raise bed.trouble(f"{contender.group} delivered {len(taken)} of {count}")
    finally:
        customer.close()
    return [at_ms - appended[each] for each, at_ms in taken.items()]


def _send(
    bed: JoinHarness, contender: Contender, made: EncodedRecord, appended: dict[bytes, int]
) -> None:
    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise ErasestreamError(error.str())
        appended[dict(made.headers)["ce_id"]] = message.timestamp()[1]

    bed.plain.produce(
        contender.source, made.value, None, made.partition, delivered, headers=list(made.headers)
    )


def _id(message: Message) -> bytes:
    return dict(Record.of(message).headers)["ce_id"]


def _customer(bed: JoinHarness, topic: str) -> Consumer:
    """Somebody who reads on from the end and is connected already."""
    settings = bed.stack.admin().settings(
        ClientErrorState(),
        group_id="customer",  # never joined: partitions are assigned
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_wait_max_ms=100,
    )
    consumer = Consumer(settings)
    ends = bed.ends_of(topic)
    consumer.assign([TopicPartition(*at, offset) for at, offset in ends.items()])
    consumer.poll(CONNECTED_S)
    return consumer


class TimedRouter(Router):
    """The router, and what its barrier takes for each batch."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.waits_ms: list[float] = []

    def is_ready(self) -> bool:
        """What the router says."""
        begun = time.monotonic()
        answer = super().is_ready()
        self.waits_ms.append((time.monotonic() - begun) * 1000)
        return answer

    def wait_until_ready(self) -> None:
        """Counts for the batch that waits."""
        begun = time.monotonic()
        super().wait_until_ready()
        self.waits_ms[-1] += (time.monotonic() - begun) * 1000


def barrier(bed: JoinHarness) -> Iterator[Figure]:
    """Milliseconds per batch, with results waiting and owners deciding all the time."""
    catalog, stopping = bed.stack.catalog(), threading.Event()
    connection = Connection(cluster=bed.stack.cluster, role=ROUTER)
    view = ConsentView(
        connection=connection, catalog=catalog, lanes=catalog.lane_names, report=lambda *_: None
    )
    originals = RecordFetcher(connection=connection)
    router = TimedRouter(
        catalog=catalog,
        view=view,
        originals=originals,
        offsets=OffsetQueries(Admin(connection)),
        stopping=stopping,
    )
    loop = TransactionalLoop(
        connection=connection,
        topics=topics_of(catalog),
        instance="1",
        handler=router,
        stopping=stopping,
    )
    loop.start()
    owner = Owner(bed)

    def step() -> None:
        end = time.monotonic() + LOOK_EVERY_S
        while time.monotonic() < end:
            owner.decide_if_it_is_time()
            loop.run_once(LOOK_EVERY_S)

    for number in range(BARRIER_ROUNDS + 1):
        if number == 1:
            router.waits_ms.clear()
        bed.timed(OURS, bed.results(SHOP, BARRIER_RESULTS, picture(IMAGE_BYTES)), step)
    loop.close()
    originals.close()
    view.close()
    yield from _percentiles("barrier", router.waits_ms)


class Owner:
    """Somebody who changes their mind all the time."""

    def __init__(self, bed: JoinHarness) -> None:
        self._bed = bed
        self._begun = time.monotonic()
        self._made = 0

    def decide_if_it_is_time(self) -> None:
        """Twenty times a second; grants and revocations in turn."""
        if time.monotonic() < self._begun + self._made / DECISIONS_PER_S:
            return
        word = Decision.REVOKED if self._made % 2 else Decision.GRANTED
        decide(self._bed, SHOP, AccountId("changes-their-mind"), word)
        self._made += 1

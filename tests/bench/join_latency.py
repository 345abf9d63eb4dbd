"""Latency from the append of a result to its delivery, and the barrier's share per batch."""

import threading
import time
from collections.abc import Collection, Iterator
from statistics import quantiles
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.pipeline.stages.routing.router import Router, topics_of
from erasestream.schemas.clocks import Deadline
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
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from tests.bench.figures import Figure
from tests.bench.join_harness import OURS, SHOP, Contender, JoinHarness
from tests.bench.join_opted_in import decide
from tests.bench.join_records import EncodedRecord, picture
from tests.bench.join_streams import start_streams

RATE = 20
IMAGE_BYTES = 100_000
WARM_UP = 60
COUNT = 240
TURNS = 2
WAIT_S = 60.0
CONNECTED_S = 1.0
STEP_S = 0.05

DECISIONS_PER_S = 20
BARRIER_RESULTS = 2000
BARRIER_ROUNDS = 3


def measure(harness: JoinHarness, streams: Contender) -> Iterator[Figure]:
    """Measure our latency and that of Kafka Streams, in turn."""
    router, peer = harness.start_router(), start_streams(harness, streams)
    found: dict[str, list[float]] = {"": [], "streams_": []}
    for count in (WARM_UP, *[COUNT] * TURNS):
        results = harness.results(SHOP, count, picture(IMAGE_BYTES))
        ours, theirs = _latencies(harness, OURS, results), _latencies(harness, streams, results)
        if count == COUNT:
            found[""] += ours
            found["streams_"] += theirs
    for process in (router, peer):
        process.stop(grace_s=15)
    goals = {"latency_p50": 10.0, "latency_p99": 30.0}
    for prefix, values in found.items():
        yield from _percentiles(f"{prefix}latency", values, goals if not prefix else {})


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


def _latencies(
    harness: JoinHarness, contender: Contender, results: list[EncodedRecord]
) -> list[float]:
    """Return milliseconds from the append of each result until a customer receives it."""
    appended: dict[bytes, int] = {}
    received: dict[bytes, float] = {}
    customer = _customer(harness, contender.target)
    count = len(results)
    begun_s, sent = time.monotonic(), 0
    deadline = Deadline(WAIT_S, time.monotonic)
    try:
        while len(received) < count or len(appended) < count:
            if sent < count and time.monotonic() >= begun_s + sent / RATE:
                _send(harness, contender, results[sent], appended)
                sent += 1
            harness.plain.poll(0)
            message = customer.poll(0.002)
            if message is not None and message.error() is None:
                received[_id(message)] = time.time() * 1000
            if deadline.has_passed:
                raise harness.failure(f"{contender.group} delivered {len(received)} of {count}")
    finally:
        customer.close()
    return [at_ms - appended[each] for each, at_ms in received.items()]


def _send(
    harness: JoinHarness, contender: Contender, result: EncodedRecord, appended: dict[bytes, int]
) -> None:
    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise ErasestreamError(error.str())
        appended[dict(result.headers)["ce_id"]] = message.timestamp()[1]

    harness.plain.produce(
        contender.source,
        result.value,
        None,
        result.partition,
        on_delivery,
        headers=list(result.headers),
    )


def _id(message: Message) -> bytes:
    return dict(Record.of(message).headers)["ce_id"]


def _customer(harness: JoinHarness, topic: str) -> Consumer:
    """Open a consumer that reads from the end offsets and is already connected."""
    settings = harness.stack.admin().settings(
        ClientErrorState(),
        group_id="customer",  # never joined: partitions are assigned
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_wait_max_ms=100,
    )
    consumer = Consumer(settings)
    ends = harness.ends_of(topic)
    consumer.assign([TopicPartition(*at, offset) for at, offset in ends.items()])
    consumer.poll(CONNECTED_S)
    return consumer


class TimedRouter(Router):
    """A router that measures the time its barrier takes per batch."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.waits_ms: list[float] = []
        self._begun_s = 0.0

    def on_read(self, partitions: Collection[Partition]) -> None:
        """Measure the time until the router has its marks."""
        self._begun_s = time.monotonic()
        super().on_read(partitions)

    def is_ready(self, at: Partition) -> bool:
        """Measure the time until the router's answer is yes, once for each batch."""
        answer = super().is_ready(at)
        if answer and self._begun_s:
            self.waits_ms.append((time.monotonic() - self._begun_s) * 1000)
            self._begun_s = 0.0
        return answer


def barrier(harness: JoinHarness) -> Iterator[Figure]:
    """Measure milliseconds per batch, while results wait and an owner keeps deciding."""
    catalog, stopping = harness.stack.catalog(), threading.Event()
    connection = Connection(cluster=harness.stack.cluster, role=ROUTER)
    view = ConsentView(
        connection=connection, catalog=catalog, lanes=catalog.lane_names, report=lambda *_: None
    )
    originals = RecordFetcher(connection=connection)
    router = TimedRouter(
        catalog=catalog,
        view=view,
        originals=originals,
        offsets=OffsetQueries(Admin(connection)),
    )
    loop = TransactionalLoop(
        connection=connection,
        topics=topics_of(catalog),
        instance="1",
        handler=router,
        stopping=stopping,
        listener=QuarantineRegistry(),
    )
    loop.start()
    owner = Owner(harness)

    def step() -> None:
        deadline = Deadline(STEP_S, time.monotonic)
        while not deadline.has_passed:
            owner.decide_if_due()
            loop.run_once(STEP_S)

    for number in range(BARRIER_ROUNDS + 1):
        if number == 1:
            router.waits_ms.clear()
        harness.timed(OURS, harness.results(SHOP, BARRIER_RESULTS, picture(IMAGE_BYTES)), step)
    loop.close()
    originals.close()
    view.close()
    yield from _percentiles("barrier", router.waits_ms)


class Owner:
    """An account owner who alternates between grant and revocation."""

    def __init__(self, harness: JoinHarness) -> None:
        self._harness = harness
        self._begun_s = time.monotonic()
        self._count = 0

    def decide_if_due(self) -> None:
        """Make the next decision if it is due: twenty per second."""
        if time.monotonic() < self._begun_s + self._count / DECISIONS_PER_S:
            return
        decision = Decision.REVOKED if self._count % 2 else Decision.GRANTED
        decide(self._harness, SHOP, AccountId("changes-their-mind"), decision)
        self._count += 1

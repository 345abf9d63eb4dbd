"""How the exactly-once loop recovers: what it aborts, what it repeats, and when it ends."""

import logging
import threading
from collections.abc import Iterable

import pytest
from confluent_kafka import Consumer

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.schemas.errors import Fenced
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES, cutouts_of, ephemeral_of
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.counters import TransactionCounters
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from erasestream.topics.kafka.transaction.producer import TransactionalProducer
from erasestream.topics.kafka.transaction.quarantine import FIRST_PAUSE_S
from tests.flow.waiting import eventually
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness
from tests.topics.kafka.transaction.copy_handler import CopyHandler

VALUES = [b"one", b"two", b"three"]


class RefusedHandler(CopyHandler):
    """At first writes a record after the last one that no broker would accept."""

    def __init__(self, to: str, *, refusals: int) -> None:
        super().__init__(to)
        self._refusals = refusals

    def handle(self, record: Record) -> Iterable[Outgoing]:
        yield from super().handle(record)
        if self._refusals and record.value == VALUES[-1]:
            self._refusals -= 1
            yield Outgoing(self._to, record.at.number, None, [], bytes(MAX_RECORD_BYTES))


def test_a_refused_record_aborts_its_transaction(harness: KafkaRouterHarness) -> None:
    """Half of the decisions are never delivered: all of them are undone and made again later."""
    now_s = [0.0]
    harness.produce(cutouts_of(harness.lane), VALUES)
    handler = RefusedHandler(ephemeral_of(harness.lane), refusals=2)
    loop = TransactionalLoop(
        connection=harness.kafka.connection(ROUTER),
        topics=[cutouts_of(harness.lane)],
        instance="copy",
        handler=handler,
        stopping=threading.Event(),
        listener=QuarantineRegistry(),
        clock=lambda: now_s[0],
    )
    loop.start()
    try:

        def all_are_committed() -> bool:
            now_s[0] += FIRST_PAUSE_S
            loop.run_once()
            return loop.counters.records == len(VALUES)

        eventually("all are committed", all_are_committed, poll_s=0)
    finally:
        loop.close()
    written = [record.value for record in harness.records(ephemeral_of(harness.lane), 2)]
    assert written == VALUES
    assert loop.counters.aborted == 2
    assert handler.handled.count(VALUES[-1]) == 3


class ShortTransactions(Connection):
    """A connection whose transactions may be open for a few seconds.

    That is long enough for a busy machine to append a record within it.
    """

    def settings(self, errors: ClientErrorState, **more: object) -> Settings:
        if "transaction_timeout_ms" in more:
            more = {**more, "transaction_timeout_ms": 5000, "message_timeout_ms": 5000}
        return super().settings(errors, **more)


def test_a_transaction_that_timed_out_ends_the_process(harness: KafkaRouterHarness) -> None:
    """The brokers abort it: nothing of it is delivered, and a successor decides again."""
    at = Partition(ephemeral_of(harness.lane), 0)
    producer = TransactionalProducer(
        connection=ShortTransactions(cluster=harness.kafka.cluster, role=ROUTER),
        instance="slow",
        stopping=threading.Event(),
        errors=ClientErrorState(),
    )
    producer.start()
    producer.begin()
    producer.write(Outgoing(at.topic, at.number, None, [], b"too late"), source=at)

    def is_aborted_by_the_brokers() -> bool:
        producer.serve()
        return harness.log_end(at) > 1  # the record, and the marker of the transaction's end

    eventually("the brokers abort it", is_aborted_by_the_brokers, poll_s=0.3)
    settings = harness.kafka.connection(ROUTER).settings(ClientErrorState(), group_id=ROUTER)
    unsubscribed = Consumer(settings)
    with pytest.raises(Fenced):
        producer.commit([], unsubscribed)
    unsubscribed.close()
    producer.close()
    assert harness.records(at.topic, 2) == []


def test_totals_are_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Each abort at once; commits as totals, every ten seconds and at the end."""
    now_s = [0.0]
    counters = TransactionCounters(clock=lambda: now_s[0])
    caplog.set_level(logging.INFO)
    counters.commit(3)
    counters.abort("partitions_revoked")
    now_s[0] = 11.0
    counters.commit(4)
    counters.log_totals()
    logged = [(r.message, r.__dict__.get("count"), r.committed, r.aborted) for r in caplog.records]  # type: ignore[attr-defined]
    assert logged == [("transaction_aborted", None, 1, 1), ("transactions", 7, 2, 1)]


def test_a_member_that_comes_back_disturbs_no_other(harness: KafkaRouterHarness) -> None:
    """A static member keeps its partitions while it is gone: the group does not rebalance."""
    stays, leaves = (harness.start_router(instance=name) for name in ("stays", "leaves"))

    def both_have_partitions() -> bool:
        for each in (stays, leaves):
            each.loop.run_once()
        return stays.loop.has_partitions and leaves.loop.has_partitions

    eventually("each has a partition", both_have_partitions, poll_s=0)
    before = stays.loop._assignment.epoch
    leaves.close()
    comes_back = harness.start_router(instance="leaves")
    uploads = [harness.upload_with_result(number) for number in (0, 1)]

    def are_routed() -> bool:
        for each in (stays, comes_back):
            each.loop.run_once()
        return set(harness.delivered_so_far()) >= set(uploads)

    eventually("both partitions are routed", are_routed, poll_s=0)
    assert stays.loop._assignment.epoch == before

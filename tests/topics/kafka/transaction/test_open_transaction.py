"""The states of a transaction, with a producer that only records its calls."""

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from erasestream.schemas.errors import InvariantBroken, Unavailable
from erasestream.topics.kafka.records import Outgoing, Partition
from erasestream.topics.kafka.transaction.calls import AbortRequired
from erasestream.topics.kafka.transaction.counters import TransactionCounters
from erasestream.topics.kafka.transaction.open_transaction import OpenTransaction

OUTGOING = Outgoing("ephemeral.shop", 0, None, [], b"result")
SOURCE = Partition("cutouts.shop", 0)
CONSUMER: Consumer = None  # type: ignore[assignment]


class FakeProducer:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails: str | None = None

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.fails == name:
            raise AbortRequired(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))

    def begin(self) -> None:
        self._call("begin")

    def write(self, record: Outgoing, *, source: Partition) -> None:
        assert (record, source) == (OUTGOING, SOURCE)
        self._call("write")

    def commit(self, offsets: list[TopicPartition], _consumer: Consumer) -> None:
        assert offsets == []
        self._call("commit")

    def abort(self) -> None:
        self._call("abort")


class Harness:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.producer = FakeProducer()
        self.counters = TransactionCounters(clock=lambda: self.now_s)
        self.transaction = OpenTransaction(
            producer=self.producer,  # type: ignore[arg-type]
            counters=self.counters,
            clock=lambda: self.now_s,
        )


@pytest.fixture
def harness() -> Harness:
    return Harness()


def unavailable_half_way() -> Iterator[Outgoing]:
    yield OUTGOING
    raise Unavailable("an original")


def test_decisions_are_committed_together(harness: Harness) -> None:
    transaction = harness.transaction
    assert not transaction.is_open
    transaction.begin()
    transaction.add([OUTGOING], source=SOURCE)
    transaction.add([OUTGOING, OUTGOING], source=SOURCE)
    assert transaction.is_open
    transaction.commit([], CONSUMER)
    assert not transaction.is_open
    assert harness.producer.calls == ["begin", *["write"] * 3, "commit"]
    assert (harness.counters.committed, harness.counters.records) == (1, 2)


def test_age_counts_from_begin(harness: Harness) -> None:
    assert harness.transaction.age_s == 0
    harness.transaction.begin()
    harness.now_s += 3
    assert harness.transaction.age_s == 3


def test_half_a_decision_can_only_be_undone(harness: Harness) -> None:
    transaction = harness.transaction
    transaction.begin()
    with pytest.raises(Unavailable):
        transaction.add(unavailable_half_way(), source=SOURCE)
    assert transaction.is_half_decided
    with pytest.raises(InvariantBroken):
        transaction.commit([], CONSUMER)
    transaction.undo("half_decided")
    assert not transaction.is_open
    assert harness.producer.calls == ["begin", "write", "abort"]
    assert harness.counters.aborted == 1


def test_undo_without_a_transaction_does_nothing(harness: Harness) -> None:
    harness.transaction.undo("partitions_revoked")
    assert harness.producer.calls == []
    assert harness.counters.aborted == 0


@pytest.mark.parametrize(
    ("call", "end"),
    [
        ("commit", lambda transaction: transaction.commit([], CONSUMER)),
        ("abort", lambda transaction: transaction.undo("partitions_revoked")),
    ],
    ids=["commit", "undo"],
)
def test_a_failed_end_leaves_the_transaction_open(
    harness: Harness, call: str, end: Callable[[OpenTransaction], None]
) -> None:
    transaction, harness.producer.fails = harness.transaction, call
    transaction.begin()
    with pytest.raises(AbortRequired):
        end(transaction)
    assert transaction.is_open
    assert (harness.counters.committed, harness.counters.aborted) == (0, 0)

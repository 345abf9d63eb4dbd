"""One transaction after the other: begin, add decisions, commit or undo.

States and transitions:

    CLOSED        begin   OPEN
    OPEN          add     HALF_DECIDED, and OPEN again once the whole decision is written
    OPEN          commit  CLOSED
    OPEN          undo    CLOSED
    HALF_DECIDED  undo    CLOSED

Rules, all of them:

1. Half of a decision is never committed.  An error while a decision is written leaves
   HALF_DECIDED, and only `undo` leads on.
2. `undo` when CLOSED does nothing.
3. A commit or undo that fails changes no state: the brokers may hold the transaction open.
"""

from collections.abc import Iterable
from enum import Enum, auto

from confluent_kafka import Consumer, TopicPartition

from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import InvariantBroken
from erasestream.topics.kafka.records import Outgoing, Partition
from erasestream.topics.kafka.transaction.counters import TransactionCounters
from erasestream.topics.kafka.transaction.producer import TransactionalProducer


class State(Enum):
    """How far the current transaction has got."""

    CLOSED = auto()
    OPEN = auto()
    HALF_DECIDED = auto()


class OpenTransaction:
    """The transaction of a loop, if it has one open."""

    def __init__(
        self, *, producer: TransactionalProducer, counters: TransactionCounters, clock: Clock
    ) -> None:
        self._producer = producer
        self._counters = counters
        self._clock = clock
        self._state = State.CLOSED
        self._opened_at_s = 0.0
        self._decisions = 0

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open."""
        return self._state is not State.CLOSED

    @property
    def is_half_decided(self) -> bool:
        """Whether part of a decision is written."""
        return self._state is State.HALF_DECIDED

    @property
    def age_s(self) -> float:
        """Seconds since the transaction was opened; 0 if none is open."""
        return 0.0 if self._state is State.CLOSED else self._clock() - self._opened_at_s

    def begin(self) -> None:
        """Open a transaction.  Raises `Fenced`, `Unavailable`."""
        self._producer.begin()
        self._state, self._opened_at_s, self._decisions = State.OPEN, self._clock(), 0

    def add(self, decision: Iterable[Outgoing], *, source: Partition) -> None:
        """Write what one record becomes.  Raises `AbortRequired`, or what the decision raises."""
        self._state = State.HALF_DECIDED
        for outgoing in decision:
            self._producer.write(outgoing, source=source)
        self._state = State.OPEN
        self._decisions += 1

    def commit(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        """Commit what was added, together with these offsets of the consumer's group.

        Raises `AbortRequired`, `Fenced`, `Unavailable`.
        """
        if self.is_half_decided:
            raise InvariantBroken("half of a decision would be committed")
        self._producer.commit(offsets, consumer)
        self._state = State.CLOSED
        self._counters.commit(self._decisions)

    def undo(self, code: str) -> None:
        """Abort what was added, if a transaction is open; `code` is logged as the reason."""
        if self.is_open:
            self._producer.abort()
            self._counters.abort(code)
        self._state = State.CLOSED

"""Change an offset of a group whose members are at work, and lose none of their commits.

A transaction that has sent an offset is a lock: until it ends, no member that reads committed
offsets gets an answer for that partition (`start_offsets.py`, which reads again what it commits).
Under the lock the offset is read and, if it is still to be changed, changed.

A broker accepts offsets in a transaction without a member's name, also while the group has
members; outside of a transaction it refuses them (seen with Kafka 4.4).
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from confluent_kafka import Consumer, Producer, TopicPartition

from erasestream.topics.catalog.acl import transactional_prefix
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.group_offsets import Committed
from erasestream.topics.kafka.producer.closing import close_producer
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.calls import CALL_TIMEOUT_S, TransactionCalls

LOCK_TIMEOUT_S = 10.0
"""The brokers undo a lock that is held for longer: members wait for it."""


class OffsetLock:
    """The lock on one partition's offset."""

    def __init__(
        self, at: Partition, *, calls: TransactionCalls, producer: Producer, consumer: Consumer
    ) -> None:
        self._at = at
        self._calls = calls
        self._producer = producer
        self._consumer = consumer

    def send(self, committed: Committed) -> None:
        """Let this be committed at the end, instead of what was sent before."""
        offset = TopicPartition(*self._at, committed.offset, metadata=committed.metadata)
        self._calls.make(
            lambda: self._producer.send_offsets_to_transaction(
                [offset], self._consumer.consumer_group_metadata(), CALL_TIMEOUT_S
            )
        )

    def commit(self) -> None:
        """Commit what was sent last."""
        self._calls.make(lambda: self._producer.commit_transaction(CALL_TIMEOUT_S))


class OffsetLocks:
    """Locks on the offsets of one group, one at a time; `name` fences an earlier process."""

    def __init__(self, *, connection: Connection, group: str, name: str) -> None:
        errors = ClientErrorState()
        with ExitStack() as opened:
            producer = self._producer = Producer(
                connection.settings(
                    errors,
                    transactional_id=f"{transactional_prefix(connection.role)}{name}",
                    transaction_timeout_ms=int(LOCK_TIMEOUT_S * 1000),
                )
            )
            opened.callback(close_producer, producer)
            self._consumer = Consumer(
                connection.settings(errors, group_id=group, enable_auto_commit=False)
            )
            opened.callback(self._consumer.close)
            self._calls = TransactionCalls(
                stopping=threading.Event(), errors=errors, serve=lambda: producer.poll(0)
            )
            opened.callback(self._calls.close)
            self._opened = opened.pop_all()
        self._is_started = False

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()

    @contextmanager
    def lock(self, at: Partition, held: Committed) -> Iterator[OffsetLock]:
        """Lock one offset for a `with` block, and undo the lock unless it was committed.

        `held`: any offset.  Raises `Refused`, `Unavailable`, or `Fenced` if the lock was lost.
        """
        if not self._is_started:
            self._calls.make(lambda: self._producer.init_transactions(CALL_TIMEOUT_S))
            self._is_started = True
        self._producer.begin_transaction()
        lock = OffsetLock(at, calls=self._calls, producer=self._producer, consumer=self._consumer)
        try:
            lock.send(held)
            yield lock
        except BaseException:
            self._calls.make(lambda: self._producer.abort_transaction(CALL_TIMEOUT_S))
            raise

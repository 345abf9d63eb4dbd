"""Read an upload again, at exactly the place where it lay.

There is no reset policy: with one, the place of a purged upload delivers a stranger's photo
(measured).  What is gone is gone, and the caller is told so.

Reads ahead, since what is asked for next mostly lies next; what was read ahead is bounded
in bytes.  One thread.
"""

import time
from collections import deque
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, TopicPartition

from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState, translate
from erasestream.topics.kafka.records import Partition, Record

MAX_HELD_BYTES = 64_000_000
"""Bound of what was read ahead, beside librdkafka's own queue of the same size."""
MAX_SKIP = 64
"""A place further on than this many records is sought, nearer ones are read through to."""
MAX_SKIP_BYTES = 4_000_000
"""Once so much was read through to a place, it is sought after all: uploads can be large."""
ANSWER_TIMEOUT_S = 10.0
"""How long nothing of the partition may come, until its broker counts as away."""


class RecordFetcher:
    """Uploads by their place."""

    def __init__(
        self, *, connection: Connection, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.received = 0
        """How many records came from the brokers, also those that nobody asked for."""
        self._watch = ClientErrorState()
        self._lifeline = BrokerLossDetector(connection, self._watch)
        self._held: dict[Partition, deque[Record]] = {}
        self._next: dict[Partition, int] = {}
        self._aimed: dict[Partition, int] = {}
        self._out_of_range: dict[Partition, int | None] = {}
        self._settings = connection.settings(
            self._watch,
            group_id=connection.role,  # never joined: partitions are assigned
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="error",
            fetch_wait_max_ms=100,
            queued_max_messages_kbytes=MAX_HELD_BYTES // 1000,
            fetch_message_max_bytes=4_000_000,
        )
        self._consumer = Consumer(self._settings)

    def read(self, at: Partition, offset: int) -> Record | None:
        """The record at this place; None if it is not there any more.

        Raises `Unavailable` if the broker does not answer: that says nothing about whether
        it is there.
        """
        deadline = self._clock() + ANSWER_TIMEOUT_S
        skipped_bytes = 0
        while True:
            self._aim(at, offset)
            held = self._held[at]
            while held and held[0].offset < offset:
                skipped_bytes += len(held.popleft().value)
            if held:
                return held.popleft() if held[0].offset == offset else None
            if at in self._out_of_range:
                is_gone = self._out_of_range[at] == offset
                self._forget(at)
                if is_gone:
                    return None
                # Another place is, on the way to this one or of an earlier aim: librdkafka
                # lets such an error outlive its assignment, and may stop the next one with it.
                continue
            if skipped_bytes > MAX_SKIP_BYTES and self._aimed[at] != offset:
                self._forget(at)
                continue
            if self._receive(at) == at:
                deadline = self._clock() + ANSWER_TIMEOUT_S
            elif self._clock() > deadline:
                trouble = self._watch.explain(f"reading {at} again: no answer")
                self._let_go(at)
                raise trouble

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def _aim(self, at: Partition, offset: int) -> None:
        """Make sure that reading on leads to the offset."""
        held = self._held.get(at)
        start = held[0].offset if held else self._next.get(at)
        if start is not None and start <= offset <= self._next[at] + MAX_SKIP:
            return
        self._forget(at)
        self._held[at] = deque()
        self._next[at] = self._aimed[at] = offset
        self._consumer.incremental_assign([TopicPartition(*at, offset)])

    def _let_go(self, at: Partition) -> None:
        """Of a partition that does not answer, and of a client that can not."""
        self._forget(at)
        if self._lifeline.is_lost(self._consumer):
            for each in list(self._next):
                self._forget(each)
            self._consumer = Consumer(self._settings)

    def _forget(self, at: Partition) -> None:
        if at in self._next:
            self._consumer.incremental_unassign([TopicPartition(*at)])
        self._held.pop(at, None)
        self._next.pop(at, None)
        self._aimed.pop(at, None)
        self._out_of_range.pop(at, None)

    def _receive(self, asked: Partition) -> Partition | None:
        """Take what comes next; the partition that a record came of."""
        message = self._consumer.poll(0.1)
        if message is None:
            return None
        error = message.error()
        if error is None:
            self.received += 1
            record = Record.of(message)
            if record.at in self._held:
                self._held[record.at].append(record)
                self._next[record.at] = record.offset + 1
                self._bound(asked)
            return record.at
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            at = Partition(str(message.topic()), message.partition() or 0)
            self._out_of_range[at] = message.offset()
        elif not isinstance(translate(error), Unavailable):
            raise translate(error, "reading uploads again")
        else:
            self._watch(error)
        return None

    def _bound(self, asked: Partition) -> None:
        """Let go of the largest heap of records that nobody asked for yet."""
        sizes = {at: sum(len(r.value) for r in held) for at, held in self._held.items()}
        others = [at for at in sizes if at != asked]
        if others and sum(sizes.values()) > MAX_HELD_BYTES:
            self._forget(max(others, key=lambda at: sizes[at]))

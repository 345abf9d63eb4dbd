"""Read an upload again, at exactly the place where it lay.

There is no reset policy: with one, the place of a purged upload delivers a stranger's photo
(measured).  What is gone is gone, and the caller is told so.

Reads ahead, since what is asked for next mostly lies next; what was read ahead is bounded
in bytes.  One thread.
"""

import time
from collections import deque

from confluent_kafka import Consumer, KafkaError, TopicPartition

from erasestream.schemas.errors import Unavailable
from erasestream.topics.connection import Connection, ErrorWatch, translate
from erasestream.topics.record import Partition, Record

MAX_HELD_BYTES = 64_000_000
"""Bound of what was read ahead, beside librdkafka's own queue of the same size."""
MAX_SKIP = 64
"""A place further on than this many records is sought, nearer ones are read through to."""
ANSWER_TIMEOUT_S = 10.0


class Originals:
    """Uploads by their place."""

    def __init__(self, *, connection: Connection) -> None:
        self._watch = ErrorWatch()
        self._held: dict[Partition, deque[Record]] = {}
        self._next: dict[Partition, int] = {}
        self._aimed: dict[Partition, int] = {}
        self._gone: set[Partition] = set()
        self._consumer = Consumer(
            connection.settings(
                self._watch,
                group_id=connection.role,  # never joined: partitions are assigned
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="error",
                fetch_wait_max_ms=100,
                queued_max_messages_kbytes=MAX_HELD_BYTES // 1000,
                fetch_message_max_bytes=4_000_000,
            )
        )

    def read(self, at: Partition, offset: int) -> Record | None:
        """The record at this place; None if it is not there any more.

        Raises `Unavailable` if the broker does not answer: that says nothing about whether
        it is there.
        """
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            self._aim(at, offset)
            held = self._held[at]
            while held and held[0].offset < offset:
                held.popleft()
            if held:
                return held.popleft() if held[0].offset == offset else None
            if at in self._gone:
                was_aimed_at = self._aimed[at] == offset
                self._forget(at)
                if was_aimed_at:
                    return None
                continue  # what lay before it is gone; whether it is, only asking for it tells
            self._receive()
            if time.monotonic() > deadline:
                self._forget(at)
                raise self._watch.explain(f"reading {at} again: no answer")

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

    def _forget(self, at: Partition) -> None:
        if at in self._next:
            self._consumer.incremental_unassign([TopicPartition(*at)])
        self._held.pop(at, None)
        self._next.pop(at, None)
        self._aimed.pop(at, None)
        self._gone.discard(at)

    def _receive(self) -> None:
        message = self._consumer.poll(0.1)
        if message is None:
            return
        error = message.error()
        if error is None:
            record = Record.of(message)
            if record.at in self._held:
                self._held[record.at].append(record)
                self._next[record.at] = record.offset + 1
                self._bound()
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._gone.add(Partition(str(message.topic()), message.partition() or 0))
        elif not isinstance(translate(error), Unavailable):
            raise translate(error, "reading uploads again")
        else:
            self._watch(error)

    def _bound(self) -> None:
        """Let go of the largest heap of records that nobody asked for yet."""
        sizes = {at: sum(len(r.value) for r in held) for at, held in self._held.items()}
        if sum(sizes.values()) > MAX_HELD_BYTES:
            self._forget(max(sizes, key=lambda at: sizes[at]))

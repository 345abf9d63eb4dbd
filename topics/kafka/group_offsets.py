"""Committed offsets of a group, read and written by a consumer that never joins it.

Not by the admin client.  Two faults of librdkafka (2.16) end the process there when brokers come
and go; both can be read in its source, and the first was seen again and again:

* Its request for the offsets of a group ends in a segfault once the coordinator has moved:
  the coordinator is then looked for by the part of a consumer that an admin client does not have.
* Any of its requests to a coordinator may abort, if the connection breaks just before it is
  sent: the request is freed twice.

The admin client's own request to commit drops the metadata, too (seen with librdkafka 2.16).
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.backoff import retry
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.records import Partition

TIMEOUT_S = 20.0
"""Longest wait for the coordinator."""
ATTEMPT_S = 1.0
"""Longest wait of one attempt: between attempts errors that end the wait are noticed."""
MAX_PAUSE_S = 0.2
"""Longest pause between attempts: a failed one mostly waited for its answer already."""


class Committed(NamedTuple):
    """A group's committed offset of one partition, and the metadata beside it."""

    offset: int
    metadata: str = ""


class GroupOffsets:
    """Committed offsets, with a consumer for each call that is closed after it.  Thread-safe."""

    def __init__(self, connection: Connection, *, timeout_s: float = TIMEOUT_S) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._errors = ClientErrorState()

    def committed(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, Committed]:
        """Return what is committed for these; those without are left out.

        An open transaction's offsets do not count yet.
        Raises `Unavailable`, or `Refused` if the role may not read the group.
        """
        asked = [TopicPartition(*at) for at in partitions]
        if not asked:
            return {}
        context = f"role {self._connection.role}, group {group}"
        deadline = Deadline(self._timeout_s, time.monotonic)
        with self._consumer(group) as consumer:
            try:
                answers = retry(
                    lambda: _committed(consumer, asked, context),
                    deadline=deadline,
                    max_pause_s=MAX_PAUSE_S,
                )
            except Unavailable as error:
                raise self._errors.explain(f"{context}: no answer") from error
        self._errors.recovered()
        result = {}
        for tp in answers:
            if tp.error is not None:
                raise translate(tp.error, context)
            if tp.offset >= 0:
                at = Partition(tp.topic, tp.partition)
                result[at] = Committed(tp.offset, tp.metadata or "")
        return result

    def check(self, group: str, at: Partition) -> None:
        """Make sure that this role may read the group, and so its offset of this partition.

        Whether the role may also be a member shows when it joins.
        Raises `Refused` naming role and group, or `Unavailable`.
        """
        self.committed(group, [at])

    def commit(self, group: str, at: Partition, offset: int, *, metadata: str) -> None:
        """Commit an offset for a group without members; see `commit_all`."""
        self.commit_all(group, {at: Committed(offset, metadata)})

    def commit_all(self, group: str, offsets: Mapping[Partition, Committed]) -> None:
        """Commit these offsets for a group without members, in one request.

        Raises `Refused` if it has members, or `Unavailable`.
        """
        context = f"offsets of {', '.join(map(str, offsets))} for group {group}"
        places = [
            TopicPartition(*at, each.offset, metadata=each.metadata) for at, each in offsets.items()
        ]
        with self._consumer(group) as consumer:
            try:
                answers = consumer.commit(offsets=places, asynchronous=False)
            except KafkaException as exception:
                error = kafka_error(exception)
                if error.code() not in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
                    raise translate(error, context) from exception
                consumer.poll(0)  # serves the error callback, which knows the reason
                raise self._errors.explain(f"{context}: no answer") from exception
        self._errors.recovered()
        for answer in answers:
            if answer.error is not None:
                raise translate(answer.error, context)

    @contextmanager
    def _consumer(self, group: str) -> Iterator[Consumer]:
        settings = self._connection.settings(
            self._errors,
            enable_sparse_connections=False,  # see `Admin`
            group_id=group,
            enable_auto_commit=False,
            # With read_committed, an open transaction on one partition hides all of them.
            isolation_level="read_uncommitted",
        )
        consumer = Consumer(settings)
        try:
            yield consumer
        finally:
            consumer.close()


def _committed(
    consumer: Consumer, asked: list[TopicPartition], context: str
) -> list[TopicPartition]:
    try:
        return consumer.committed(asked, ATTEMPT_S)
    except KafkaException as exception:
        # A missing right is reported only to a consumer that polls.
        message = consumer.poll(0)
        reason = message.error() if message is not None else None
        raise translate(reason or kafka_error(exception), context) from exception

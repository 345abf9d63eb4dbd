"""Begin the partitions that a group assigns to a member, and commit those that it revokes.

Rules:

* Position and metadata of a new partition come from one answer, so that they fit each other.
* A partition is committed before it is revoked.  One that is lost, because the group has given it
  to another member already, is not.

librdkafka calls these while its consumer is polled or closed.
"""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.backoff import Backoff
from erasestream.topics.kafka.consumer.offset_committer import Acknowledgements, OffsetCommitter
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.records import Partition

COMMITTED_S = 30.0
"""Longest wait for what the group has committed; after it the client asks by itself."""
ATTEMPT_S = 1.0
MAX_PAUSE_S = 0.2
"""Between attempts, which mostly have waited for an answer already."""


class GroupAssignment:
    """The partitions of one member."""

    def __init__(
        self,
        *,
        acknowledgements: Acknowledgements,
        committer: OffsetCommitter,
        errors: ClientErrorState,
        is_closing: Callable[[], bool],
    ) -> None:
        """`is_closing` ends a wait for the brokers early."""
        self._acknowledgements = acknowledgements
        self._committer = committer
        self._errors = errors
        self._is_closing = is_closing
        self._is_paused = False

    def pause(self, consumer: Consumer, *, is_paused: bool) -> None:
        """Fetch nothing, or go on; also for partitions that are assigned meanwhile."""
        if is_paused != self._is_paused:
            self._is_paused = is_paused
            change = consumer.pause if is_paused else consumer.resume
            change(consumer.assignment())

    def on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin where the group has committed."""
        known = {tp.partition: tp for tp in self._committed(consumer, partitions)}
        places = []
        for tp in partitions:
            at, committed = Partition(tp.topic, tp.partition), known.get(tp.partition)
            if committed is None or committed.error is not None or committed.offset < 0:
                self._acknowledgements.resume(at, None, "")
                places.append(TopicPartition(*at))
            else:
                self._acknowledgements.resume(at, committed.offset, committed.metadata or "")
                places.append(TopicPartition(*at, committed.offset))
        consumer.incremental_assign(places)
        if self._is_paused:
            consumer.pause(places)

    def on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Commit and drop partitions."""
        self._committer.revoke(consumer, [Partition(tp.topic, tp.partition) for tp in partitions])

    def on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Drop partitions."""
        self._committer.drop([Partition(tp.topic, tp.partition) for tp in partitions])

    def _committed(
        self, consumer: Consumer, partitions: list[TopicPartition]
    ) -> list[TopicPartition]:
        """Return what the group has committed; empty if the brokers do not answer."""
        deadline = Deadline(COMMITTED_S, time.monotonic)
        backoff = Backoff(max_pause_s=MAX_PAUSE_S)
        while True:
            try:
                return consumer.committed(partitions, ATTEMPT_S)
            except KafkaException as exception:
                error = kafka_error(exception)
                is_final = not isinstance(translate(error), Unavailable)
                if is_final or deadline.has_passed or self._is_closing():
                    self._errors(error)
                    return []
            backoff.pause(deadline)

"""Commits of a consumer that does not wait for their answers.

A consumer that waits for unavailable brokers can neither report them nor be stopped.  One commit is
under way at a time; offsets whose commit failed are part of the next one.
"""

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from erasestream.topics.kafka.errors import ClientErrorState, kafka_error
from erasestream.topics.kafka.records import Partition


class OffsetCommits:
    """Offsets that are not committed yet; `on_commit` is the consumer's callback."""

    def __init__(self, errors: ClientErrorState) -> None:
        self._errors = errors
        self._uncommitted: dict[Partition, int] = {}
        self._is_under_way = False

    def add(self, at: Partition, offset: int) -> None:
        """Commit this offset of a partition with the next commit; never an earlier one."""
        self._uncommitted[at] = max(self._uncommitted.get(at, 0), offset)

    def clear(self) -> None:
        """Forget what is not committed: the partitions are another member's by now."""
        self._uncommitted = {}

    def send(self, consumer: Consumer) -> None:
        """Begin a commit, unless one is under way."""
        if not self._uncommitted or self._is_under_way:
            return
        offsets = [TopicPartition(*at, offset) for at, offset in self._uncommitted.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exception:
            self._errors(kafka_error(exception))
        else:
            self._is_under_way = True

    def on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Take the answer: forget what is committed."""
        self._is_under_way = False
        if error is not None:
            self._errors(error)
            return
        self._errors.recovered()
        for tp in partitions:
            at = Partition(tp.topic, tp.partition)
            if tp.error is None and self._uncommitted.get(at, tp.offset + 1) <= tp.offset:
                del self._uncommitted[at]

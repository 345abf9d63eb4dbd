"""Records to be worked through at least once: read, work, then say how far one came.

For stages whose work can be repeated without harm.  A static member: a restart within the
session timeout moves no partitions.
"""

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from erasestream.schemas.errors import Fenced, Unavailable
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.static_membership import member_settings
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.producer import QUEUE_KBYTES


class WorkQueue:
    """One member of a group that shares the records of some topics."""

    def __init__(self, *, connection: Connection, topics: list[str], instance: str) -> None:
        self._topics = topics
        self._watch = ClientErrorState()
        self._lifeline = BrokerLossDetector(connection, self._watch)
        self._assigned: set[Partition] = set()
        self._done: dict[Partition, int] = {}
        self._is_committing = False
        self.has_joined = False
        self._consumer = Consumer(
            member_settings(
                connection,
                self._watch,
                instance=instance,
                topics=topics,
                auto_offset_reset="earliest",
                queued_max_messages_kbytes=QUEUE_KBYTES,
            )
            | {"on_commit": self._on_commit}
        )
        self._consumer.subscribe(
            topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def read(self, *, timeout_s: float, most: int) -> list[Record]:
        """Up to so many records; the caller bounds their bytes by the number it asks for."""
        self._commit()
        first = self._consumer.poll(timeout_s)
        self._watch.check()
        self._lifeline.check(self._consumer)
        if first is None:
            return []
        rest = self._consumer.consume(most - 1, 0) if most > 1 else []
        return [Record.of(message) for message in (first, *rest) if self._is_record(message)]

    def is_ours(self, at: Partition) -> bool:
        """Whether the partition is still ours: after a long wait it may be another's."""
        return at in self._assigned

    def done(self, records: Iterable[Record]) -> None:
        """These are worked through, and all that was read before them.  See `done_below`."""
        below: dict[Partition, int] = {}
        for record in records:
            below[record.at] = max(below.get(record.at, 0), record.offset + 1)
        self.done_below(below)

    def done_below(self, offsets: Mapping[Partition, int]) -> None:
        """All before these is worked through.  What can not be committed comes again, somewhere.

        Does not wait for the answer: a consumer that waits for brokers that are away can
        neither say so nor be asked to end.
        """
        for at, offset in offsets.items():
            if self.is_ours(at):
                self._done[at] = max(self._done.get(at, 0), offset)
        self._commit()

    def _commit(self) -> None:
        if not self._done or self._is_committing:
            return
        offsets = [TopicPartition(*at, offset) for at, offset in self._done.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exception:
            self._watch(kafka_error(exception))
        else:
            self._is_committing = True

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._is_committing = False
        if error is not None:
            self._watch(error)  # tried again with the next read
            return
        self._watch.settled()
        for tp in partitions:
            at = Partition(tp.topic, tp.partition)
            if tp.error is None and self._done.get(at, tp.offset + 1) <= tp.offset:
                del self._done[at]

    def close(self) -> None:
        """Leave; what is not done is read again by whoever comes next."""
        self._consumer.close()

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal():
            raise Fenced(error.str())
        if error.code() != KafkaError._PARTITION_EOF:
            if not isinstance(translate(error), Unavailable):
                raise translate(error, f"reading {', '.join(self._topics)}")
            self._watch(error)
        return False

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = {Partition(tp.topic, tp.partition) for tp in partitions}
        self.has_joined = True

    def _on_revoke(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._assigned = set()
        self._done = {}

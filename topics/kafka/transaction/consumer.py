"""Read records as a group member whose position is only what its transactions committed.

The member commits nothing by itself and resets no offset.  Whatever changes its assignment
during a read (assigned, revoked, a position out of range) is reported to a listener; the records
of that read are then of the old and the new assignment, and the caller drops them.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from erasestream.schemas.errors import Fenced, Unavailable
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.leaving import StaticMember
from erasestream.topics.kafka.consumer.reassign import reassign
from erasestream.topics.kafka.consumer.static_membership import member_settings
from erasestream.topics.kafka.errors import ClientErrorState, translate
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.producer import METADATA_S
from erasestream.topics.kafka.transaction.start_offsets import StartOffset

PREFETCH_KBYTES = 64_000
"""Bound of the records that are read ahead, in kilobytes: about one of the largest."""
SMALL_READ = 200
SMALL_READ_BYTES = 5_000_000
"""Bounds of a small read: small, so that reading and writing overlap and no lane waits long for
another's, and large enough that the handler's requests, once per read, cost little."""


class AssignmentListener(Protocol):
    """Takes changes of the assignment during `read`, and revocations also during `close`."""

    def on_assigned(self, partitions: list[Partition]) -> None:
        """Take over exactly these partitions."""

    def on_revoked(self) -> None:
        """Give up all partitions."""

    def on_out_of_range(self, at: Partition, offset: int | None) -> None:
        """Handle that the brokers have no record at this position."""


class TransactionalConsumer:
    """A member of the role's group; `instance` is its permanent name.

    Constructing one raises `Unavailable`, `Refused`.
    """

    def __init__(
        self, *, connection: Connection, topics: list[str], instance: str, errors: ClientErrorState
    ) -> None:
        self._topics = topics
        self._errors = errors
        self._broker_loss = BrokerLossDetector(connection, errors)
        self._listener: AssignmentListener | None = None
        self._member: StaticMember | None = None
        self._paused: set[Partition] = set()
        self.client: Consumer = Consumer(
            member_settings(
                connection,
                errors,
                instance=instance,
                topics=topics,
                max_poll_interval_ms=300_000,
                auto_offset_reset="error",
                topic_metadata_refresh_interval_ms=int(METADATA_S * 1000),
                fetch_error_backoff_ms=50,
                queued_max_messages_kbytes=PREFETCH_KBYTES,
            )
        )

    def subscribe(self, listener: AssignmentListener) -> None:
        """Join the group."""
        self._listener = listener
        self._member = StaticMember(
            self.client,
            on_assign=lambda _, found: listener.on_assigned(
                [Partition(tp.topic, tp.partition) for tp in found]
            ),
            on_revoke=lambda *_: listener.on_revoked(),
        )
        self._member.subscribe(self._topics)

    def assign(self, starts: Mapping[Partition, StartOffset]) -> None:
        """Read exactly these partitions, from these offsets on."""
        reassign(self.client, {at: start.offset for at, start in starts.items()})
        self._resume(self._paused.intersection(starts))

    def pause_only(self, partitions: Iterable[Partition]) -> None:
        """Read all assigned partitions but these for now; nothing is lost or repeated."""
        wanted = set(partitions)
        if new := wanted - self._paused:
            self.client.pause([TopicPartition(*at) for at in new])
            self._paused |= new
        self._resume(self._paused - wanted)

    def read(self, timeout_s: float) -> list[Record]:
        """Return the records of one small read; wait up to the timeout for the first."""
        records: list[Record] = []
        size = 0
        message = self.client.poll(timeout_s)
        self._errors.raise_if_fatal()
        self._broker_loss.check(self.client)
        while message is not None:
            if self._is_record(message):
                records.append(Record.of(message))
                size += len(records[-1].value)
            if size >= SMALL_READ_BYTES or len(records) >= SMALL_READ:
                break
            message = self.client.poll(0)
        return records

    def close(self) -> None:
        """Leave the group."""
        if self._member is None:
            self.client.close()
        else:
            self._member.close()

    def _resume(self, partitions: set[Partition]) -> None:
        if partitions:
            self.client.resume([TopicPartition(*at) for at in partitions])
            self._paused -= partitions

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET and self._listener is not None:
            at = Partition(str(message.topic()), message.partition() or 0)
            self._listener.on_out_of_range(at, message.offset())
            return False
        if error.fatal():
            raise Fenced(error.str())
        if not isinstance(translate(error), Unavailable):
            raise translate(error, f"reading {', '.join(self._topics)}")
        self._errors(error)
        return False

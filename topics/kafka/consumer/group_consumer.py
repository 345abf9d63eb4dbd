"""One member of a consumer group, which commits the offsets that its caller has acknowledged.

Rules:

* Poll and close from one thread at a time; librdkafka's callbacks run inside these calls.
* Offsets are committed asynchronously every `commit_every_s`, and synchronously before a
  partition is revoked and before the member leaves.  A lost partition is not committed.
* A failed commit loses nothing: it is repeated, here or by the partition's next owner.
* After a renewal of the certificate the member commits, leaves, and joins again.
* A client that lost its brokers is replaced without a commit.
* Errors that retrying cannot fix are raised; others are kept in the client's error state.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.records import Partition, Record

log: logging.Logger = logging.getLogger(__name__)

FETCH_BYTES = 16_000_000
"""Largest fetch response of a broker, unless its first record alone is larger."""

SESSION_S = 10.0
"""Session timeout: partitions of a silent member go to another one after this time."""


class Acknowledgements(Protocol):
    """Offsets to commit (`DeliveryTracker`); None means all partitions."""

    def to_commit(self, partitions: Iterable[Partition] | None = None) -> dict[Partition, int]:
        """Return the acknowledged offsets that are not committed."""

    def mark_committed(self, offsets: dict[Partition, int]) -> None:
        """Record that these offsets are committed."""

    def revoke(self, partitions: Iterable[Partition] | None = None) -> None:
        """Drop partitions that belong to another member."""


class _Committer:
    """Commits of acknowledged offsets, on the consumer that a call passes."""

    def __init__(self, acknowledgements: Acknowledgements, *, every_s: float, clock: Clock) -> None:
        self._acknowledgements = acknowledgements
        self._every_s = every_s
        self._clock = clock
        self._pause = Deadline(0.0, clock)

    def commit_when_due(self, consumer: Consumer) -> None:
        """Commit everything acknowledged, asynchronously and at most every `every_s`."""
        if not self._pause.has_passed:
            return
        self._pause = Deadline(self._every_s, self._clock)
        due = self._acknowledgements.to_commit()
        if not due:
            return
        try:
            consumer.commit(offsets=_offsets(due), asynchronous=True)
        except KafkaException as exception:
            _log_postponed(kafka_error(exception))

    def commit_now(self, consumer: Consumer, partitions: Iterable[Partition] | None = None) -> None:
        """Commit everything acknowledged in these partitions, or in all, and wait for it."""
        due = self._acknowledgements.to_commit(partitions)
        if not due:
            return
        try:
            consumer.commit(offsets=_offsets(due), asynchronous=False)
        except KafkaException as exception:
            _log_postponed(kafka_error(exception))
        else:
            self._acknowledgements.mark_committed(due)

    def on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """Take the outcome of an asynchronous commit; the callback of the consumer."""
        if error is not None:
            _log_postponed(error)
            return
        self._acknowledgements.mark_committed(
            {Partition(tp.topic, tp.partition): tp.offset for tp in offsets if tp.error is None}
        )


class GroupConsumer:
    """A member of a group that reads one topic, committed records only."""

    def __init__(
        self,
        *,
        connection: Connection,
        topic: str,
        group: str,
        acknowledgements: Acknowledgements,
        max_queued_bytes: int,
        max_processing_s: float,
        commit_every_s: float,
        clock: Clock,
    ) -> None:
        self._topic = topic
        self._context = f"role {connection.role}, topic {topic}, group {group}"
        self._max_processing_s = max_processing_s
        self._acknowledgements = acknowledgements
        self._committer = _Committer(acknowledgements, every_s=commit_every_s, clock=clock)
        self._errors = ClientErrorState()
        self._certificate = CertificateWatcher(connection.identity)
        self._broker_loss = BrokerLossDetector(connection, self._errors)
        self._settings = _settings(
            connection,
            self._errors,
            max_queued_bytes=max_queued_bytes,
            max_processing_s=max_processing_s,
        ) | {"group.id": group, "on_commit": self._committer.on_commit}
        self._consumer = self._join()

    def _join(self) -> Consumer:
        consumer = Consumer(self._settings)
        try:
            consumer.subscribe([self._topic], on_revoke=self._on_revoke, on_lost=self._on_lost)
        except BaseException:
            consumer.close()
            raise
        return consumer

    def poll(self, timeout_s: float) -> Record | None:
        """Return the next record, or None.  Raises `Refused` for errors that do not pass."""
        if self._certificate.is_due():
            self.close()
            self._consumer = self._join()
        elif self._broker_loss.is_lost(self._consumer):
            self._reconnect()
        self._committer.commit_when_due(self._consumer)
        message = self._consumer.poll(timeout_s)
        if message is None or not self._is_record(message):
            return None
        return Record.of(message)

    def close(self) -> None:
        """Commit everything acknowledged and leave the group."""
        try:
            self._committer.commit_now(self._consumer)
        finally:
            self._consumer.close()

    def _reconnect(self) -> None:
        """Replace the client; uncommitted records are redelivered."""
        self._consumer.unsubscribe()  # it cannot commit: closing must not revoke anything
        self._acknowledgements.revoke()
        self._consumer.close()
        self._consumer = self._join()

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            self._errors.recovered()
            return True
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            log.warning("polled_too_late", extra={"seconds": self._max_processing_s})
            return False  # the next poll joins the group again
        failure = translate(error, self._context)
        if not isinstance(failure, Unavailable):
            raise failure
        self._errors(error)
        return False

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        revoked = [Partition(tp.topic, tp.partition) for tp in partitions]
        self._committer.commit_now(consumer, revoked)
        self._acknowledgements.revoke(revoked)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._acknowledgements.revoke(Partition(tp.topic, tp.partition) for tp in partitions)


def _log_postponed(error: KafkaError) -> None:
    if error.code() != KafkaError._NO_OFFSET:
        log.info("commit_postponed", extra={"code": error.name()})


def _offsets(due: Mapping[Partition, int]) -> list[TopicPartition]:
    return [TopicPartition(*at, offset) for at, offset in due.items()]


def _settings(
    connection: Connection,
    errors: ClientErrorState,
    *,
    max_queued_bytes: int,
    max_processing_s: float,
) -> Settings:
    return connection.settings(
        errors,
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy="cooperative-sticky",
        session_timeout_ms=int(SESSION_S * 1000),
        heartbeat_interval_ms=int(SESSION_S * 1000 / 4),
        max_poll_interval_ms=int(max_processing_s * 1000),
        fetch_max_bytes=FETCH_BYTES,
        fetch_message_max_bytes=FETCH_BYTES // 4,
        receive_message_max_bytes=MAX_RECORD_BYTES + FETCH_BYTES,
        queued_max_messages_kbytes=max(1, max_queued_bytes // 1024),
        # Pause before fetching resumes after the queue was full; the default is a second.
        fetch_queue_backoff_ms=10,
    )

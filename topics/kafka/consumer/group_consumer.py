"""One member of a consumer group, which commits the offsets that its caller has acknowledged.

Rules:

* One thread calls it; librdkafka's callbacks run inside these calls, which may take as long as the
  brokers are silent.
* Offsets are committed asynchronously every `commit_every_s`, and synchronously before a
  partition is revoked and before the member leaves (`offset_committer.py`, `group_assignment.py`).
* At the end of a partition the offset behind the last marker of a transaction is committed, so
  that the group's lag is 0 when everything is acknowledged.
* After a renewal of the certificate the member commits, leaves, and joins again.
* A client that lost its brokers is replaced without a commit.
* Errors that retrying cannot fix are raised; others are kept in the client's error state.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import Unavailable
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.consumer.group_assignment import GroupAssignment
from erasestream.topics.kafka.consumer.leaving import leave_and_close
from erasestream.topics.kafka.consumer.offset_committer import Acknowledgements, OffsetCommitter
from erasestream.topics.kafka.consumer.reported_end import ReadToEnd, ReportedEnds
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.records import Partition, Record

log: logging.Logger = logging.getLogger(__name__)

FETCH_BYTES = 16_000_000
"""Largest fetch response of a broker, unless its first record alone is larger."""

SESSION_S = 10.0
"""Session timeout: partitions of a silent member go to another one after this time."""


class GroupConsumer:
    """A member of a group that reads one topic, committed records only."""

    def __init__(
        self,
        *,
        connection: Connection,
        topic: str,
        group: str,
        acknowledgements: Acknowledgements,
        is_closing: Callable[[], bool],
        max_queued_bytes: int,
        max_processing_s: float,
        commit_every_s: float,
        clock: Clock,
    ) -> None:
        """`is_closing` ends waits for the brokers early."""
        self._topic = topic
        self._context = f"role {connection.role}, topic {topic}, group {group}"
        self._max_processing_s = max_processing_s
        self._committer = OffsetCommitter(acknowledgements, every_s=commit_every_s, clock=clock)
        self._errors = ClientErrorState()
        self._assignment = GroupAssignment(
            acknowledgements=acknowledgements,
            committer=self._committer,
            errors=self._errors,
            is_closing=is_closing,
        )
        self._ends = ReportedEnds()
        self._certificate = CertificateWatcher(connection.identity)
        self._broker_loss = BrokerLossDetector(connection, self._errors)
        self._settings = partial(
            _settings,
            connection,
            self._errors,
            max_queued_bytes=max_queued_bytes,
            max_processing_s=max_processing_s,
        )
        self._group = {"group.id": group, "on_commit": self._committer.on_commit}
        self._consumer = self._join()

    def _join(self) -> Consumer:
        consumer = Consumer(self._settings() | self._group)
        try:
            consumer.subscribe(
                [self._topic],
                on_assign=self._assignment.on_assign,
                on_revoke=self._assignment.on_revoke,
                on_lost=self._assignment.on_lost,
            )
        except BaseException:
            consumer.close()
            raise
        return consumer

    @property
    def lost(self) -> int:
        """Number of acknowledgements that were lost with their partitions."""
        return self._committer.lost

    def poll(self, timeout_s: float) -> Record | ReadToEnd | None:
        """Return the next record, the end of a partition, or None.

        Raises `Refused` for errors that do not pass.
        """
        if self._certificate.is_due():
            self._rejoin()
        elif self._broker_loss.is_lost(self._consumer):
            self._reconnect()
        self._committer.commit_when_due(self._consumer)
        message = self._consumer.poll(timeout_s)
        if message is None:
            return None
        if message.error() is None:
            self._errors.recovered()
            return Record.of(message)
        if (reached := self._ends.read_to_end(self._consumer, message)) is not None:
            return reached
        self._check(message)
        return None

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on.  Raises `Unavailable` before they are read.

        Records that were fetched before are dropped.
        """
        for at, offset in offsets.items():
            try:
                self._consumer.seek(TopicPartition(*at, offset))
            except KafkaException as exception:
                raise translate(kafka_error(exception), f"seek in {at}") from exception

    def pause(self, *, is_paused: bool) -> None:
        """Deliver nothing, or go on."""
        self._assignment.pause(self._consumer, is_paused=is_paused)

    def close(self) -> None:
        """Commit everything acknowledged and leave the group."""
        try:
            self._committer.commit_now(self._consumer)
        finally:
            leave_and_close(self._consumer)

    def _rejoin(self) -> None:
        self.close()
        self._committer.reset()
        self._consumer = self._join()

    def _reconnect(self) -> None:
        """Replace the client; uncommitted records are redelivered."""
        self._committer.drop()  # it cannot commit: leaving must not try to
        leave_and_close(self._consumer)
        self._committer.reset()
        self._consumer = self._join()

    def _check(self, message: Message) -> None:
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            log.warning("polled_too_late", extra={"seconds": self._max_processing_s})
            return  # the next poll joins the group again
        failure = translate(error, self._context)
        if not isinstance(failure, Unavailable):
            raise failure
        self._errors(error)


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
        enable_partition_eof=True,
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

"""What both subscriptions stand on: one client of a group, and what of it is done.

Reading and committing happen in one thread at a time; acknowledgements come from any.
Offsets are committed by whoever reads, never by whoever acknowledges.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import Code, ErasestreamError, InvalidEvent, Refused, Unavailable
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.images import RESULTS, Cutout, Failure
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation, group_prefix
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import (
    MAX_RECORD_BYTES,
    ephemeral_of,
)
from erasestream.topics.client.ack_tracker import DeliveryTracker, ResultKey, Seen
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Cluster, Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.records import Partition, Record

log = logging.getLogger(__name__)


_FETCH_BYTES = 16_000_000
"""Largest answer of a broker, unless its first record alone is larger."""

_SESSION_S = 10.0
"""A member that is silent for so long is dead, and its partitions go to another."""

_GROUP = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class ReceivingLimits:
    """How much is fetched ahead and remembered, and how long anything may take."""

    max_queued_bytes: int = 32_000_000
    """What is fetched ahead; overshot by one fetch, at most one record or 16 MB."""
    remember: int = 65_536
    """Results that duplicates are recognised among, about 300 bytes each."""
    commit_every_s: float = 1.0
    """How often acknowledgements are committed: what is delivered again after a kill."""
    max_processing_s: float = 300.0
    """Longest time between two polls; beyond it the partitions go to another member."""
    readiness_s: float = 15.0
    """Longest wait for the brokers' first answer."""

    def __post_init__(self) -> None:
        if self.max_processing_s < _SESSION_S:
            raise Refused(f"max_processing_s must be at least {_SESSION_S:g}")


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One result.  `appended_at`: when the broker appended it, its customers' clock."""

    event: Cutout | Failure
    partition: int
    offset: int
    appended_at: datetime
    _acknowledge: Callable[[], None] = field(repr=False, compare=False)

    def ack(self) -> None:
        """You are done with this result.  Never blocks; from any thread; twice is once."""
        self._acknowledge()


class ResultConsumer:
    """One member of a group of the role `<lane>.consumer`."""

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        group: str,
        limits: ReceivingLimits,
        monotonic_s: Callable[[], float],
    ) -> None:
        if not _GROUP.fullmatch(group):
            raise Refused("a group is called [A-Za-z0-9._-]{1,64}")
        self.skipped: Counter[Code] = Counter()
        self.duplicates = 0
        self.limits = limits
        self._monotonic_s = monotonic_s
        self._commit_due_s = monotonic_s()
        self._role = lane_role(lane, LaneRole.CONSUMER)
        self._topic = ephemeral_of(lane)
        self._group = group_prefix(self._role) + group
        self._session = DeliveryTracker(remember=limits.remember)
        self._watch = ClientErrorState()
        connection = Connection(cluster=cluster, role=self._role)
        admin = Admin(connection, timeout_s=limits.readiness_s)
        admin.check_rights({self._topic: [Operation.READ]})
        settings = _settings(connection, self._watch, limits)
        self._settings = settings | {"group.id": self._group, "on_commit": self._on_commit}
        self._renewal = CertificateWatcher(connection.identity)
        self._lifeline = BrokerLossDetector(connection, self._watch)
        self._consumer = self._join()

    def _join(self) -> Consumer:
        """A member of the group, with the certificate as it is now."""
        consumer = Consumer(self._settings)
        consumer.subscribe([self._topic], on_revoke=self._on_revoke, on_lost=self._on_lost)
        return consumer

    def receive(self, wait_s: float) -> Delivery | None:
        """The next new result; None if nothing came, or nothing that is handed out."""
        if self._renewal.is_due():
            # To the group a member leaves and another joins.
            self.close()
            self._consumer = self._join()
        elif self._lifeline.is_lost(self._consumer):
            self._begin_anew()
        self._commit_when_due()
        message = self._consumer.poll(wait_s)
        return None if message is None else self._delivery(message)

    def _begin_anew(self) -> None:
        """What was acknowledged and not committed is delivered again, and recognised here."""
        self._consumer.unsubscribe()  # it can not commit: nothing is to be revoked when it closes
        self._session.lose_all()
        self._consumer.close()
        self._consumer = self._join()

    def close(self) -> None:
        """Commit what is acknowledged and leave the group."""
        self._commit_now(self._session.to_commit())
        self._consumer.close()

    def _delivery(self, message: Message) -> Delivery | None:
        error = message.error()
        if error is not None:
            self._on_error(error)
            return None
        self._watch.settled()
        record = Record.of(message)
        try:
            event = one_from_wire(RESULTS, record.headers, record.value)
        except InvalidEvent as invalid:
            self._skip(record, invalid)
            return None
        result = ResultKey.of(event.account, event.id)
        seen = self._session.see(record.at, record.offset, result)
        if seen is not Seen.NEW:
            self.duplicates += 1
            return None
        return Delivery(
            event=event,
            partition=record.at.number,
            offset=record.offset,
            appended_at=utc(record.appended_ms),
            _acknowledge=partial(self._session.acknowledge, record.at, record.offset, result),
        )

    def _skip(self, record: Record, invalid: InvalidEvent) -> None:
        self.skipped[invalid.code] += 1
        self._session.skip(record.at, record.offset)
        log.warning(
            "result_skipped",
            extra={
                "code": invalid.code,
                "topic": record.at.topic,
                "partition": record.at.number,
                "offset": record.offset,
            },
        )

    def _on_error(self, error: KafkaError) -> None:
        """Raise what waiting does not mend; note the rest."""
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            log.warning("polled_too_late", extra={"seconds": self.limits.max_processing_s})
            return  # the next poll joins the group again
        mended = self._in_our_words(error)
        if not isinstance(mended, Unavailable):
            raise mended
        self._watch(error)

    def _in_our_words(self, error: KafkaError) -> ErasestreamError:
        context = f"role {self._role}, topic {self._topic}, group {self._group}"
        return translate(error, context)

    def _commit_when_due(self) -> None:
        now_s = self._monotonic_s()
        if now_s < self._commit_due_s:
            return
        self._commit_due_s = now_s + self.limits.commit_every_s
        due = self._session.to_commit()
        if not due:
            return
        try:
            self._consumer.commit(offsets=_offsets(due), asynchronous=True)
        except KafkaException as exception:
            self._note_commit(kafka_error(exception))

    def _commit_now(self, due: dict[Partition, int]) -> None:
        if not due:
            return
        try:
            self._consumer.commit(offsets=_offsets(due), asynchronous=False)
        except KafkaException as exception:
            self._note_commit(kafka_error(exception))
        else:
            self._session.committed(due)

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        if error is not None:
            self._note_commit(error)
            return
        self._session.committed(
            {Partition(tp.topic, tp.partition): tp.offset for tp in offsets if tp.error is None}
        )

    def _note_commit(self, error: KafkaError) -> None:
        """A commit that failed loses nothing: it comes again, here or at the next owner."""
        if error.code() != KafkaError._NO_OFFSET:
            log.info("commit_postponed", extra={"code": error.name()})

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        ours = [Partition(tp.topic, tp.partition) for tp in partitions]
        self._commit_now(self._session.to_commit(ours))
        self._session.lose(ours)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._session.lose(Partition(tp.topic, tp.partition) for tp in partitions)


def _offsets(due: dict[Partition, int]) -> list[TopicPartition]:
    return [TopicPartition(*at, offset) for at, offset in due.items()]


def _settings(connection: Connection, watch: ClientErrorState, limits: ReceivingLimits) -> Settings:
    return connection.settings(
        watch,
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy="cooperative-sticky",
        session_timeout_ms=int(_SESSION_S * 1000),
        heartbeat_interval_ms=int(_SESSION_S * 1000 / 4),
        max_poll_interval_ms=int(limits.max_processing_s * 1000),
        fetch_max_bytes=_FETCH_BYTES,
        fetch_message_max_bytes=_FETCH_BYTES // 4,
        receive_message_max_bytes=MAX_RECORD_BYTES + _FETCH_BYTES,
        queued_max_messages_kbytes=max(1, limits.max_queued_bytes // 1024),
        # How soon fetching goes on after the queue was full; the default is a whole second.
        fetch_queue_backoff_ms=10,
    )

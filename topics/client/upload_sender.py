"""What the two producers share: clients, and a bound on what waits.

The steps of one upload: `prepare` checks it, `reserve` asks for room, `hand_over` gives it
to librdkafka, whose thread serves the acknowledgement into a future and gives the room back.
"""

import os
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message

from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import (
    ClientClosed,
    Code,
    ErasestreamError,
    InvalidImage,
    Refused,
    Unavailable,
    UsedAfterFork,
)
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.images import Upload
from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.retention_budget import JUDGED_TO_APPENDED_S
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import (
    MAX_UPLOAD_RECORD_BYTES,
    RECORD_OVERHEAD_BYTES,
    uploads_of,
)
from erasestream.topics.client.byte_budget import ByteBudget
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Cluster, Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState, is_fatal, kafka_error, translate
from erasestream.topics.kafka.producer.producer_pool import ProducerPool

_PURGE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class SendingLimits:
    """How much may wait, and how long anything may take."""

    max_queued_bytes: int = 128_000_000
    """What waits to be acknowledged, images with their overhead; one upload at least."""
    max_wait_s: float = 30.0
    """Longest wait of a sender for room in the queue."""
    delivery_s: float = JUDGED_TO_APPENDED_S
    """Longest time from hand-over to acknowledgement, retries included.

    When one upload has waited for so long, all that wait are given up with it.
    """
    readiness_s: float = 15.0
    """Longest wait for the brokers' first answer."""

    def __post_init__(self) -> None:
        if self.max_queued_bytes < MAX_UPLOAD_RECORD_BYTES:
            raise Refused(
                f"max_queued_bytes must be at least {MAX_UPLOAD_RECORD_BYTES}, one upload"
            )


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Where an upload lies, and when the broker appended it: there its 24 hours start.

    `offset` is -1 if a retry found the record appended already and was not told where.
    """

    upload_id: UploadId
    partition: int
    offset: int
    appended_at: datetime


class Prepared(NamedTuple):
    """An upload that was checked, as a record; `size` is the room that it takes."""

    upload_id: UploadId
    wire: Wire
    size: int


class UploadSender:
    """Sends as the role `<lane>.producer`.  Thread-safe; may not cross a fork."""

    def __init__(self, cluster: Cluster, lane: Lane, *, limits: SendingLimits) -> None:
        self.lane = lane
        self.limits = limits
        self._topic = uploads_of(lane)
        self._role = lane_role(lane, LaneRole.PRODUCER)
        self._process = os.getpid()
        self._closed = False
        self._watch = ClientErrorState()
        self._budget = ByteBudget(limits.max_queued_bytes)
        connection = Connection(cluster=cluster, role=self._role)
        admin = Admin(connection, timeout_s=limits.readiness_s)
        admin.check_rights({self._topic: [Operation.WRITE]})
        self._clients = ProducerPool(
            _settings(connection, self._watch, limits),
            delivery_s=limits.delivery_s,
            renewal=CertificateWatcher(connection.identity),
            lifeline=BrokerLossDetector(connection, self._watch),
            name=self._role,
        )

    def check_usable(self) -> None:
        """Raises `Refused` (used_after_fork, closed)."""
        if os.getpid() != self._process:
            raise UsedAfterFork
        if self._closed:
            raise ClientClosed

    def prepare(self, upload: Upload) -> Prepared:
        """The record of an upload, and the room that it takes."""
        wire = to_wire(upload, source=f"/lanes/{self.lane}/uploads")
        size = len(wire.value) + RECORD_OVERHEAD_BYTES
        return Prepared(upload_id=upload.id, wire=wire, size=size)

    def reserve(self, size: int) -> Future[None]:
        """Ask for room; done when it is granted.  Then `hand_over` or `withdraw`."""
        self.check_usable()
        return self._budget.reserve(size)

    def withdraw(self, room: Future[None], size: int) -> None:
        """Give up on room that was asked for."""
        self._budget.withdraw(room, size)

    def queue_full(self) -> Unavailable:
        """What a sender that waited too long is told."""
        detail = f"{self._topic}: no room within {self.limits.max_wait_s:g} s"
        return Unavailable(detail, code=Code.QUEUE_FULL)

    def hand_over(self, prepared: Prepared) -> Future[Receipt]:
        """Give the record to librdkafka.  The room for it must have been granted."""
        receipt: Future[Receipt] = Future()
        receipt.set_running_or_notify_cancel()  # what was sent can not be cancelled
        try:
            self.check_usable()
            # Not the record itself: librdkafka has a copy, and ours would stay until it is sent.
            delivered = partial(self._delivered, receipt, prepared.upload_id, prepared.size)
            self._clients.produce(self._topic, prepared.wire, delivered)
        except BufferError as error:
            self._budget.release(prepared.size)
            raise self.queue_full() from error
        except KafkaException as exception:
            self._budget.release(prepared.size)
            raise self._failure(kafka_error(exception)) from exception
        except BaseException:
            self._budget.release(prepared.size)
            raise
        return receipt

    def flush(self, timeout_s: float) -> None:
        """Wait until every future is done.  Raises `Unavailable` if that takes longer."""
        self.check_usable()
        self._wait_empty(timeout_s)

    def close(self) -> None:
        """Wait until every future is done, then let go of the brokers.  Twice is once."""
        if os.getpid() != self._process:
            raise UsedAfterFork
        if self._closed:
            return
        self._closed = True
        try:
            # Every record is acknowledged or given up within this time.
            self._wait_empty(self.limits.delivery_s + _PURGE_S)
        finally:
            self._clients.purge()
            self._budget.wait_empty(_PURGE_S)
            self._clients.close()

    def _wait_empty(self, timeout_s: float) -> None:
        if not self._budget.wait_empty(timeout_s):
            detail = f"{self._topic}: {self._budget.used} bytes wait after {timeout_s:g} s"
            raise self._watch.explain(detail)

    def _delivered(
        self,
        receipt: Future[Receipt],
        upload_id: UploadId,
        size: int,
        error: KafkaError | None,
        message: Message,
    ) -> None:
        try:
            if error is None:
                self._watch.settled()
                receipt.set_result(_receipt(upload_id, message))
            else:
                receipt.set_exception(self._failure(error))
        finally:
            self._budget.release(size)  # last: an empty budget means all are done

    def _failure(self, error: KafkaError) -> ErasestreamError:
        code, context = error.code(), f"role {self._role}, topic {self._topic}"
        if is_fatal(error):
            return Unavailable(f"{context}: {error.str()}")  # the next one gets a new client
        if code == KafkaError.MSG_SIZE_TOO_LARGE:
            return InvalidImage(context, code=Code.TOO_LARGE)
        if code in (KafkaError._PURGE_INFLIGHT, KafkaError._PURGE_QUEUE):
            at_latest = f"at the latest after {self.limits.delivery_s:g} s"
            return self._watch.explain(f"{context}: given up unacknowledged, {at_latest}")
        return translate(error, context)


def _receipt(upload_id: UploadId, message: Message) -> Receipt:
    partition, offset = message.partition(), message.offset()
    return Receipt(
        upload_id=upload_id,
        partition=-1 if partition is None else partition,
        offset=-1 if offset is None else max(offset, -1),
        appended_at=utc(message.timestamp()[1]),
    )


def _settings(connection: Connection, watch: ClientErrorState, limits: SendingLimits) -> Settings:
    attempt_ms = int(limits.delivery_s * 1000 / 3)
    return connection.settings(
        watch,
        acks="all",
        # With more, one that fails makes librdkafka number all others anew (`sending_clients.py`;
        # its issue 4953), and one that is not answered makes it look at the queue without a pause
        # (issue 2565).
        max_in_flight=1,
        # So what waits goes together, three times as much as librdkafka has by default; no more,
        # since whoever reads one image again reads its batch.
        batch_size=3_000_000,
        message_max_bytes=MAX_UPLOAD_RECORD_BYTES,
        # Images do not batch well and are compressed already; senders want the acknowledgement.
        linger_ms=1,
        compression_type="none",
        # A leader that is silent is left for another before that, with time for that one to answer.
        request_timeout_ms=attempt_ms,
        socket_timeout_ms=attempt_ms + 5000,
        # The budget is the bound.  librdkafka frees a record just after we release its room.
        queue_buffering_max_kbytes=(limits.max_queued_bytes + MAX_UPLOAD_RECORD_BYTES) // 1024 + 1,
        queue_buffering_max_messages=0,
    )

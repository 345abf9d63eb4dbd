"""Sender of uploads: client, byte budget and acknowledgements.  Both producers share it.

An upload goes through four steps:

1. `encoder.key` returns the key to seal it with, or waits for one.
2. `reserving` requests room in the byte budget.
3. `encoder.encode` seals it.
4. `send` gives it to librdkafka.  The client's thread completes the upload's future once the
   brokers have answered, and then releases its room.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import (
    ClientClosed,
    Code,
    ErasestreamError,
    Refused,
    Unavailable,
    UsedAfterFork,
)
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Upload
from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.catalog.retention_budget import JUDGED_TO_APPENDED_S
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import (
    MAX_UPLOAD_RECORD_BYTES,
    RECORD_OVERHEAD_BYTES,
    uploads_of,
)
from erasestream.topics.client.byte_budget import ByteBudget
from erasestream.topics.client.record_limit import largest_writable
from erasestream.topics.client.sent_upload import Receipt, SentUpload, UnseenFailures
from erasestream.topics.client.upload_builder import check_size
from erasestream.topics.client.upload_encoder import PreparedUpload, UploadEncoder, size_of
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Cluster, Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.producer.delivery import Appended, DeliveryOutcomes
from erasestream.topics.kafka.producer.producer_pool import ProducerPool

_ATTEMPT_S = 60.0
"""Longest wait for a broker's answer, of all that a long `delivery_s` leaves."""


@dataclass(frozen=True, kw_only=True)
class SendingLimits:
    """Bounds on memory and time."""

    max_queued_bytes: int = 128_000_000
    """Bytes that wait for acknowledgement, images with their overhead; at least one upload."""
    max_wait_s: float = 30.0
    """Longest wait of a caller for a key to seal with, and for room in the queue."""
    delivery_s: float = JUDGED_TO_APPENDED_S
    """Longest time from sending to acknowledgement, retries included.

    Once one upload has waited for this long, all waiting uploads are given up with it.
    """
    close_s: float = 15.0
    """Longest wait of `close` for acknowledgements; it gives up the rest, which takes at most 5 s.

    Without an error, a `with` block waits for `delivery_s`.
    """
    max_image_bytes: int = MAX_UPLOAD_BYTES
    """Largest image that is sent; where the brokers accept less, that is the limit."""
    readiness_s: float = 15.0
    """Longest wait for the first answer of the brokers, and of the key service."""

    def __post_init__(self) -> None:
        if self.delivery_s <= 0:
            raise Refused("delivery_s must be positive")
        if self.max_queued_bytes < MAX_UPLOAD_RECORD_BYTES:
            raise Refused(
                f"max_queued_bytes must be at least {MAX_UPLOAD_RECORD_BYTES}, one upload"
            )


class UploadSender:
    """Sends as the role `<lane>.producer`.  Thread-safe; must not cross a fork."""

    def __init__(
        self, cluster: Cluster, lane: Lane, *, limits: SendingLimits, sealed: bool, now: WallClock
    ) -> None:
        self.lane = lane
        self._topic = uploads_of(lane)
        self._process = os.getpid()
        self._closed = False
        self._budget = ByteBudget(limits.max_queued_bytes)
        self._unseen = UnseenFailures()
        role = lane_role(lane, LaneRole.PRODUCER)
        connection = Connection(cluster=cluster, role=role)
        self.limits = limits = _accepted(limits, connection, self._topic)
        self.encoder = UploadEncoder.open(
            cluster, lane, sealed=sealed, timeout_s=limits.readiness_s, now=now
        )
        self._outcomes = DeliveryOutcomes(role, self._topic, delivery_s=limits.delivery_s)
        errors = self._outcomes.errors
        self._clients = ProducerPool(
            lambda: _settings(connection, errors, limits),
            delivery_s=limits.delivery_s,
            certificate=CertificateWatcher(connection.identity),
            broker_loss=BrokerLossDetector(connection, errors),
            name=role,
        )

    def check_usable(self) -> None:
        """Raise `Refused` (used_after_fork, closed) if the sender cannot be used."""
        if os.getpid() != self._process:
            raise UsedAfterFork
        if self._closed:
            raise ClientClosed

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or belongs to another process."""
        return self._closed or os.getpid() != self._process

    @contextmanager
    def reserving(self, upload: Upload) -> Iterator[Future[None]]:
        """Request room for the block, which waits until it is granted, and encodes; then `send`.

        If the block raises, the room is given up.  Raises `Unavailable` (queue_full) for its
        `TimeoutError`, and `InvalidImage` (too_large) if the brokers would refuse the upload.
        """
        self.check_usable()
        check_size(upload.data, self.limits.max_image_bytes)
        size = size_of(upload)
        room = self._budget.reserve(size)
        try:
            yield room
        except BaseException as error:  # an interrupt or a cancelled task must not keep the room
            self._budget.withdraw(room, size)
            if isinstance(error, TimeoutError):
                raise self._queue_full() from None
            raise

    def _queue_full(self) -> Unavailable:
        detail = f"{self._topic}: no room within {self.limits.max_wait_s:g} s"
        return Unavailable(detail, code=Code.QUEUE_FULL)

    def send(self, prepared: PreparedUpload) -> SentUpload:
        """Give the record to librdkafka.  Its room must have been granted."""
        sent = SentUpload(self._unseen)
        # Without the record itself: librdkafka has a copy, and ours would stay until it is sent.
        delivered = partial(self._delivered, sent, prepared.upload_id, prepared.size)
        try:
            self.check_usable()
            with self._outcomes.translating():
                self._clients.produce(
                    self._topic, prepared.wire, self._outcomes.callback(delivered)
                )
        except BaseException as error:
            self._budget.release(prepared.size)
            if isinstance(error, BufferError):
                raise self._queue_full() from error
            raise
        return sent

    def flush(self, timeout_s: float) -> None:
        """Wait until every future is done.  Raises `Unavailable` after the timeout."""
        self.check_usable()
        if not self._budget.wait_empty(timeout_s):
            detail = f"{self._topic}: {self._budget.used} bytes wait after {timeout_s:g} s"
            raise self._outcomes.errors.explain(detail)

    def close(self, timeout_s: float) -> None:
        """Wait for acknowledgements, give up the rest, then disconnect.  Idempotent.

        Raises the error of uploads that failed and whose futures were not looked at.
        """
        if os.getpid() != self._process:
            raise UsedAfterFork
        if self._closed:
            return
        self._closed = True
        self.encoder.close()
        self._clients.close(timeout_s, wait=self._budget.wait_for_release)
        if (failure := self._unseen.take()) is not None:
            raise failure

    def begin_close(self) -> None:
        """Begin to disconnect, without waiting, while no upload waits."""
        self._closed = True
        self.encoder.close()
        self._clients.begin_close()

    def _delivered(
        self,
        sent: SentUpload,
        upload_id: UploadId,
        size: int,
        outcome: Appended | ErasestreamError,
    ) -> None:
        """Complete an upload's future; called by the thread of its client."""
        try:
            if isinstance(outcome, ErasestreamError):
                sent.fail(outcome)
            else:
                sent.set_result(_receipt(upload_id, outcome))
        finally:
            self._budget.release(size)  # last: an empty budget means that all futures are done


def _receipt(upload_id: UploadId, appended: Appended) -> Receipt:
    return Receipt(
        upload_id=upload_id,
        partition=appended.partition,
        offset=appended.offset,
        appended_at=appended.at,
    )


def _accepted(limits: SendingLimits, connection: Connection, topic: str) -> SendingLimits:
    """Return the limits, with what the brokers accept; they are asked."""
    accepted = largest_writable(connection, topic, timeout_s=limits.readiness_s)
    return replace(limits, max_image_bytes=min(limits.max_image_bytes, accepted))


def _settings(connection: Connection, errors: ClientErrorState, limits: SendingLimits) -> Settings:
    attempt_ms = max(10, int(min(_ATTEMPT_S, limits.delivery_s / 3) * 1000))
    return connection.settings(
        errors,
        acks="all",
        # With more in flight, a failed request makes librdkafka renumber all others
        # (`kafka/producer/producer_pool.py`; its issue 4953), and an unanswered one makes it scan
        # the queue without a pause (issue 2565).
        max_in_flight=1,
        # Waiting uploads share a batch, three times as large as librdkafka's default; not larger,
        # because rereading one image fetches its whole batch.
        # No larger than one record of the largest image: brokers have one limit for both.
        batch_size=min(3_000_000, limits.max_image_bytes + RECORD_OVERHEAD_BYTES),
        message_max_bytes=MAX_UPLOAD_RECORD_BYTES,
        # Images do not batch well and are compressed already; callers want the acknowledgement.
        linger_ms=1,
        compression_type="none",
        # A silent leader is left for another one early enough for that one to answer in time.
        request_timeout_ms=attempt_ms,
        socket_timeout_ms=attempt_ms + 5000,
        # The budget is the bound.  librdkafka frees a record just after its room is released.
        queue_buffering_max_kbytes=(limits.max_queued_bytes + MAX_UPLOAD_RECORD_BYTES) // 1024 + 1,
        queue_buffering_max_messages=0,
    )

"""The customers of the demo: send photos as producers, receive results as consumers."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from erasestream.pipeline.demo.scenario import LANES, Order
from erasestream.schemas.clocks import Deadline, utc_now
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import Lane, UploadId
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.expired import Expired
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import Receipt, UploadProducer
from erasestream.topics.kafka.connection import Cluster

GROUP = "demo"
POLL_TIMEOUT_S = 0.1
IDLE_TIMEOUT_S = 180.0
"""Time without any result after which the demo fails."""


@dataclass(frozen=True, kw_only=True)
class SentUpload:
    """An upload that the brokers have acknowledged."""

    order: Order
    sent_at: datetime
    receipt: Receipt


@dataclass(frozen=True, kw_only=True)
class ReceivedResult:
    """A result; `appended_at` is when the router delivered it, by the broker's clock."""

    lane: Lane
    event: Cutout | Failure | Expired
    appended_at: datetime
    received_at: datetime


def send_all(
    cluster: Cluster, orders: Iterable[Order], *, on_sent: Callable[[SentUpload], None]
) -> None:
    """Send all, each lane under its own identity; call `on_sent` for each acknowledgement."""
    with ExitStack() as opened:
        producers: dict[Lane, UploadProducer] = {}
        pending = []
        for order in orders:
            lane = order.sender.lane
            if lane not in producers:
                producers[lane] = opened.enter_context(UploadProducer(cluster, lane))
            sent_at = utc_now()
            future = producers[lane].send(
                order.photo.data,
                account=order.sender.account,
                reference=order.reference,
                options=CutoutOptions(format=order.sender.output_format),
            )
            pending.append((order, sent_at, future))
        for order, sent_at, future in pending:
            on_sent(SentUpload(order=order, sent_at=sent_at, receipt=future.result()))


class ResultReceiver:
    """Receives the results of all lanes, each under its lane's own identity."""

    def __init__(self, cluster: Cluster, lanes: Sequence[Lane] = LANES) -> None:
        self.received: list[ReceivedResult] = []
        with ExitStack() as opening:
            self._subscriptions: Mapping[Lane, ResultSubscription] = {
                lane: opening.enter_context(ResultSubscription(cluster, lane, group=GROUP))
                for lane in lanes
            }
            self._opened = opening.pop_all()

    def poll(self) -> int:
        """Receive the next result of each lane; return the number of all received so far."""
        for lane, subscription in self._subscriptions.items():
            delivery = subscription.poll(POLL_TIMEOUT_S)
            if delivery is not None:
                self.received.append(
                    ReceivedResult(
                        lane=lane,
                        event=delivery.event,
                        appended_at=delivery.appended_at,
                        received_at=utc_now(),
                    )
                )
                delivery.ack()
        return len(self.received)

    def receive_all(self, uploads: Iterable[UploadId], *, on_poll: Callable[[], None]) -> None:
        """Poll until every upload has its result.

        Calls `on_poll`, which may raise, after each poll.  Raises `Unavailable` if no result
        arrives for three minutes.
        """
        missing = set(uploads)
        count, deadline = 0, Deadline(IDLE_TIMEOUT_S, time.monotonic)
        while missing:
            if self.poll() > count:
                missing -= {result.event.id for result in self.received}
                count, deadline = len(self.received), Deadline(IDLE_TIMEOUT_S, time.monotonic)
            if deadline.has_passed:
                raise Unavailable(
                    f"no result for {IDLE_TIMEOUT_S:.0f} s, {len(missing)} are missing"
                )
            on_poll()

    @property
    def skipped(self) -> int:
        """The number of unreadable records and of duplicate results."""
        each = self._subscriptions.values()
        return sum(sum(s.skipped.values()) + s.duplicates for s in each)

    def close(self) -> None:
        """Commit acknowledged results, and leave the groups."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

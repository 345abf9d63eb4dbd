"""What customers do: send photos as producers, take results as consumers."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from erasestream.pipeline.demo.scenario import LANES, Order
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import Lane, UploadId
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import Receipt, UploadProducer
from erasestream.topics.kafka.connection import Cluster

GROUP = "demo"
SLICE_S = 0.1
PATIENCE_S = 90.0
"""So long without any result, and the demo gives up."""


def now() -> datetime:
    """This machine's clock; the brokers of the demo have the same."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An upload that the brokers have acknowledged."""

    order: Order
    sent_at: datetime
    receipt: Receipt


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A result; `appended_at` is when the router delivered it, by the broker's clock."""

    lane: Lane
    event: Cutout | Failure
    appended_at: datetime
    taken_at: datetime


def send(cluster: Cluster, orders: Iterable[Order], *, sent: Callable[[Sent], None]) -> None:
    """Send all, each lane with its own identity; `sent` hears of each acknowledgement."""
    with ExitStack() as opened:
        producers: dict[Lane, UploadProducer] = {}
        waiting = []
        for order in orders:
            lane = order.sender.lane
            if lane not in producers:
                producers[lane] = opened.enter_context(UploadProducer(cluster, lane))
            sent_at = now()
            future = producers[lane].send(
                order.photo.data,
                account=order.sender.account,
                reference=order.reference,
                options=CutoutOptions(format=order.sender.output_format),
            )
            waiting.append((order, sent_at, future))
        for order, sent_at, future in waiting:
            sent(Sent(order=order, sent_at=sent_at, receipt=future.result()))


class Results:
    """The results of all lanes, each taken with its lane's own identity."""

    def __init__(self, cluster: Cluster, lanes: Sequence[Lane] = LANES) -> None:
        self.taken: list[Taken] = []
        self._opened = ExitStack()
        with ExitStack() as opening:
            self._subscriptions: Mapping[Lane, ResultSubscription] = {
                lane: opening.enter_context(ResultSubscription(cluster, lane, group=GROUP))
                for lane in lanes
            }
            self._opened = opening.pop_all()

    def take(self) -> int:
        """Take what comes within a moment; how many have come in all."""
        for lane, subscription in self._subscriptions.items():
            delivery = subscription.poll(SLICE_S)
            if delivery is not None:
                self.taken.append(
                    Taken(
                        lane=lane,
                        event=delivery.event,
                        appended_at=delivery.appended_at,
                        taken_at=now(),
                    )
                )
                delivery.ack()
        return len(self.taken)

    def take_all(self, wanted: Iterable[UploadId], *, each_turn: Callable[[], None]) -> None:
        """Take until every upload has its result.  Raises `Unavailable` if none comes any more.

        `each_turn` is called often and may raise.
        """
        missing = set(wanted)
        came, last = 0, time.monotonic()
        while missing:
            if self.take() > came:
                missing -= {taken.event.id for taken in self.taken}
                came, last = len(self.taken), time.monotonic()
            if time.monotonic() - last > PATIENCE_S:
                raise Unavailable(f"no result for {PATIENCE_S:.0f} s, {len(missing)} are missing")
            each_turn()

    @property
    def passed_over(self) -> int:
        """Records that could not be read, and results that came twice."""
        each = self._subscriptions.values()
        return sum(sum(s.skipped.values()) + s.duplicates for s in each)

    def close(self) -> None:
        """Commit what is acknowledged, and leave."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

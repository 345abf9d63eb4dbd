"""Clients of the libraries, which share a producer and a subscription."""

import time
from contextlib import ExitStack
from heapq import heappop, heappush
from typing import Self

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.images import Cutout
from erasestream.schemas.ids import Lane
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.kafka.connection import Cluster
from tests.bench.https_clients import Race, first_s

POLL_S = 0.05
WAIT_S = 600.0


class LibraryClients:
    """One producer and one subscription, used by any number of clients."""

    def __init__(self, cluster: Cluster, lane: Lane) -> None:
        self._opened = ExitStack()
        self._results = self._opened.enter_context(ResultSubscription(cluster, lane, group="bench"))
        self._producer = self._opened.enter_context(UploadProducer(cluster, lane))

    def race(self, photo: bytes, *, clients: int, count: int, period_s: float = 0.0) -> Race:
        """Send `count` photos from so many clients, as `https_clients.race`."""
        begun_s: dict[str, float] = {}
        latencies: list[float] = []
        deadline, started_s = Deadline(WAIT_S, time.monotonic), time.monotonic()
        due_s = first_s(clients, period_s)
        while len(latencies) < count:
            while due_s and due_s[0] <= time.monotonic() and len(begun_s) < count:
                heappop(due_s)
                reference = str(len(begun_s))
                begun_s[reference] = time.monotonic()
                self._producer.send(photo, account="acct", reference=reference)
            next_s = due_s[0] - time.monotonic() if due_s else POLL_S
            delivery = self._results.poll(min(max(next_s, 0.0), POLL_S))
            if delivery is not None:
                if not isinstance(delivery.event, Cutout):
                    raise ErasestreamError("a photo failed")
                sent_s = begun_s[delivery.event.reference or ""]
                latencies.append(time.monotonic() - sent_s)
                delivery.ack()
                heappush(due_s, sent_s + period_s)
            if deadline.has_passed:
                raise ErasestreamError(f"{count - len(latencies)} results did not come")
        return Race(latencies, time.monotonic() - started_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

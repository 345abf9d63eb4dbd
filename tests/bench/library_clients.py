"""Clients of the libraries that each send a photo again once they have its result."""

import time
from contextlib import ExitStack
from typing import Self

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.images import Cutout
from erasestream.schemas.ids import Lane
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.kafka.connection import Cluster
from tests.bench.https_clients import Race

POLL_S = 0.05
WAIT_S = 600.0


class LibraryClients:
    """One producer and one subscription, used by any number of clients."""

    def __init__(self, cluster: Cluster, lane: Lane) -> None:
        self._opened = ExitStack()
        self._results = self._opened.enter_context(ResultSubscription(cluster, lane, group="bench"))
        self._producer = self._opened.enter_context(UploadProducer(cluster, lane))

    def race(self, photo: bytes, *, clients: int, count: int) -> Race:
        """Send `count` photos from so many clients, each its next once it has a result."""
        begun_s: dict[str, float] = {}
        latencies: list[float] = []
        deadline, started_s = Deadline(WAIT_S, time.monotonic), time.monotonic()

        def send() -> None:
            if len(begun_s) < count:
                reference = str(len(begun_s))
                begun_s[reference] = time.monotonic()
                self._producer.send(photo, account="acct", reference=reference)

        for _ in range(clients):
            send()
        while len(latencies) < count:
            delivery = self._results.poll(POLL_S)
            if delivery is not None:
                if not isinstance(delivery.event, Cutout):
                    raise ErasestreamError("a photo failed")
                latencies.append(time.monotonic() - begun_s[delivery.event.reference or ""])
                delivery.ack()
                send()
            if deadline.has_passed:
                raise ErasestreamError(f"{count - len(latencies)} results did not come")
        return Race(latencies, time.monotonic() - started_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

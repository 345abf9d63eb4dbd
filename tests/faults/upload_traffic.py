"""Uploads during a storm; every acknowledged upload is recorded."""

import random
import threading
from collections import Counter
from concurrent.futures import Future
from functools import partial

from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.ids import Lane
from erasestream.topics.client.upload_producer import Receipt, UploadProducer
from tests.faults.consent_traffic import ACCOUNTS
from tests.faults.evidence import AcknowledgedUpload
from tests.flow.pictures import noise, photo


def pictures() -> list[bytes]:
    """Return pictures of 1 KB to 1.5 MB, 19 KB on average: the storm is not about the model."""
    sizes = [(48, 32), (64, 48), (128, 96), (320, 240)]
    small = [photo(*size) for size in sizes for _ in range(24)]
    return [*small, *(noise(*size) for size in sizes), photo(1200, 900), noise(900, 700)]


class UploadTraffic:
    """A thread that sends until it is stopped."""

    def __init__(
        self,
        producers: dict[Lane, UploadProducer],
        results: set[str],
        *,
        max_waiting: int,
        seed: int,
    ) -> None:
        """Pause while more than `max_waiting` uploads have no result."""
        self.sent: dict[str, AcknowledgedUpload] = {}
        self.failed: Counter[str] = Counter()
        self._producers = producers
        self._results = results
        self._max_waiting = max_waiting
        self._dice = random.Random(seed)
        self._pictures = pictures()
        self._count = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sending, and return when every upload is acknowledged or has failed."""
        self._closing.set()
        self._thread.join(120)
        for producer in self._producers.values():
            producer.close()

    def _send(self) -> None:
        while not self._closing.is_set():
            waiting = self._count - sum(self.failed.values()) - len(self._results)
            if waiting > self._max_waiting:
                self._closing.wait(0.05)
                continue
            lane = self._dice.choice(list(self._producers))
            account = self._dice.choice(ACCOUNTS)
            image = self._dice.choice(self._pictures)
            try:
                future = self._producers[lane].send(image, account=account)
            except ErasestreamError as error:
                self.failed[error.code] += 1
            else:
                future.add_done_callback(partial(self._on_done, lane, account))
            self._count += 1

    def _on_done(self, lane: Lane, account: str, future: Future[Receipt]) -> None:
        error = future.exception()
        if error is not None:
            self.failed[str(getattr(error, "code", error))] += 1
            return
        receipt = future.result()
        appended_ms = round(receipt.appended_at.timestamp() * 1000)
        self.sent[receipt.upload_id] = AcknowledgedUpload(lane, account, appended_ms)

"""Uploads and decisions while everything breaks; what was acknowledged is noted.

Accounts that never opt in, that always have, that do so once in the midst, and that change
their mind all the time.
"""

import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import Future
from functools import partial

from erasestream.schemas.consent import Channel, Decision
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.ids import Lane
from erasestream.topics.consent import ConsentWriter
from erasestream.topics.producer import Receipt, UploadProducer
from tests.faults.checker import Account, Sent
from tests.flow.pictures import noise, photo

ALWAYS = ("always-1", "always-2")
NEVER = ("never-1", "never-2")
ONCE = ("once-1", "once-2")
FLIPPING = tuple(f"flips-{number}" for number in range(1, 13))
ACCOUNTS = ALWAYS + NEVER + ONCE + 2 * FLIPPING
"""Drawn from evenly."""

MAX_WAITING = 300
"""Uploads without a result, beyond which the next waits: traffic is as fast as the pipeline."""
CONFIRM_SHARE = 0.1
CONFIRM_S = 60.0


def pictures() -> list[bytes]:
    """Of mixed sizes, most of them small: what is measured is not the model."""
    sizes = [(48, 32), (64, 48), (128, 96), (320, 240)]
    small = [photo(*size) for size in sizes for _ in range(6)]
    return [*small, *(noise(*size) for size in sizes), *(photo(1200, 900) for _ in range(1))]


class Decisions:
    """Decides for accounts, several at a time, each account by one thread only."""

    def __init__(self, writers: dict[Lane, ConsentWriter], *, threads: int) -> None:
        self.known: dict[tuple[str, str, int], int] = {}
        self.confirmed: dict[Account, list[int]] = defaultdict(list)
        self.count = 0
        self.unanswered = 0
        self._writers = writers
        self._closing = threading.Event()
        owned: list[list[tuple[Lane, str]]] = [[] for _ in range(threads)]
        for number, pair in enumerate(itertools.product(writers, FLIPPING)):
            owned[number % threads].append(pair)
        self._threads = [
            threading.Thread(target=self._flip, args=(mine, random.Random(number)), daemon=True)
            for number, mine in enumerate(owned)
        ]

    def grant(self, accounts: tuple[str, ...]) -> None:
        """Opt these in, in every lane; again until it is acknowledged."""
        for (lane, writer), account in itertools.product(self._writers.items(), accounts):
            while not self._decide(lane, writer, account, Decision.GRANTED):
                if self._closing.wait(0.5):
                    return

    def start(self) -> None:
        """Let owners change their minds."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more of that."""
        self._closing.set()
        for thread in self._threads:
            thread.join(CONFIRM_S)

    def _flip(self, mine: list[tuple[Lane, str]], dice: random.Random) -> None:
        granted: set[tuple[Lane, str]] = set()
        while not self._closing.is_set():
            lane, account = pair = dice.choice(mine)
            made = Decision.REVOKED if pair in granted else Decision.GRANTED
            if not self._decide(lane, self._writers[lane], account, made):
                continue
            granted ^= {pair}
            if made is Decision.REVOKED and dice.random() < CONFIRM_SHARE:
                self._confirm(lane, account)

    def _decide(self, lane: Lane, writer: ConsentWriter, account: str, made: Decision) -> bool:
        """Whether it was acknowledged; if not, it may have been written or not."""
        decide = writer.grant if made is Decision.GRANTED else writer.revoke
        try:
            recorded = decide(account, actor="owner", channel=Channel.LIBRARY)
        except ErasestreamError:
            self.unanswered += 1
            return False
        if recorded.written:
            at = round(recorded.at.timestamp() * 1000)
            self.known[lane, account, at] = round(time.time() * 1000)
            self.count += 1
        return True

    def _confirm(self, lane: Lane, account: str) -> None:
        try:
            self._writers[lane].await_confirmed(account, timeout_s=CONFIRM_S)
        except ErasestreamError:
            self.unanswered += 1
        else:
            self.confirmed[lane, account].append(round(time.time() * 1000))


class Uploads:
    """A thread that sends until it has sent enough, or is told to stop."""

    def __init__(
        self, producers: dict[Lane, UploadProducer], results: set[str], *, count: int, seed: int
    ) -> None:
        self.sent: dict[str, Sent] = {}
        self.failed: Counter[str] = Counter()
        self._producers = producers
        self._results = results
        self._count = count
        self._dice = random.Random(seed)
        self._pictures = pictures()
        self._handed = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether all is sent."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Send no more, and return when all is answered."""
        self._closing.set()
        self._thread.join(120)
        for producer in self._producers.values():
            producer.close()

    def _send(self) -> None:
        while self._handed < self._count and not self._closing.is_set():
            waiting = self._handed - sum(self.failed.values()) - len(self._results)
            if waiting > MAX_WAITING:
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
                future.add_done_callback(partial(self._answered, lane, account))
            self._handed += 1

    def _answered(self, lane: Lane, account: str, future: Future[Receipt]) -> None:
        error = future.exception()
        if error is not None:
            self.failed[str(getattr(error, "code", error))] += 1
            return
        receipt = future.result()
        appended_ms = round(receipt.appended_at.timestamp() * 1000)
        self.sent[receipt.upload_id] = Sent(lane, account, appended_ms)

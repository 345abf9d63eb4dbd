"""The keys of sealed uploads, fetched for those that wait, and dropped when they die.

Rules, all of them:

* Asking never waits: a key that is not there is fetched in the background, in a thread, again and
  again until the service has answered or the key is dead.  Others are found meanwhile.
* A key is dead from the moment that the epochs' times give, by this worker's clock.
* An epoch of the past for which the service knows no key will never have one.  Of the present one,
  the service may still create it.
* No answer of the service ends the worker: one that refuses a lane's key holds back that lane.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from erasestream.pipeline.runtime.retry import OutageLog, PausedAttempts
from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.errors import Code, InvalidInput, Refused, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.schemas.sealing.recipients import Epoch, EpochOpener, EpochRecipient
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.purposes import KEPT, results_of, uploads_for
from erasestream.topics.keys.answers import NoKey

RETRY_S = 1.0
ANSWER_S = 5.0
"""Longest wait for one answer of the service."""
THREADS = 4

_Key = tuple[Lane, int]


class KeySource(Protocol):
    """The client of the key service.  Both raise `Unavailable`, `Refused`, and may block."""

    def opening_key(self, purpose: str, epoch: int, *, timeout_s: float) -> bytes | NoKey:
        """Return the raw private key of an epoch, or why there is none."""

    def public_key(self, purpose: str, epoch: int, *, timeout_s: float) -> bytes | NoKey:
        """Return the raw public key of an epoch, or why there is none."""

    def drop_dead(self) -> None:
        """Drop the keys that have died."""


class UploadKeys(NamedTuple):
    """Keys for the uploads to one lane in one epoch."""

    opener: EpochOpener
    results: EpochRecipient
    """Seals cut-outs for the lane's consumers."""
    kept: EpochRecipient
    """Seals capsules for the sink."""


class EpochKeys:
    """The keys that this worker holds.  For one event loop."""

    def __init__(
        self,
        source: KeySource,
        times: EpochTimes,
        *,
        now: WallClock = utc_now,
    ) -> None:
        self._source = source
        self._times = times
        self._now = now
        self._known: dict[_Key, UploadKeys | Code] = {}
        self._fetching: dict[_Key, asyncio.Task[None]] = {}
        self._outage = OutageLog()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="keys")
        self.on_change: Callable[[], None] = lambda: None
        """Called after each answer, and each attempt that failed."""

    def latest_epoch(self, appended: datetime) -> int:
        """Return the last epoch that has begun for an upload that was appended then."""
        return self._times.number(appended + timedelta(seconds=self._times.clock_error_s))

    def has(self, lane: Lane, epoch: int) -> bool:
        """Return whether `get` has an answer.  If not, it is fetched: see `on_change`."""
        key = (lane, epoch)
        if self._drop_if_dead(key) or key in self._known:
            return True
        if key not in self._fetching:
            self._fetching[key] = asyncio.create_task(self._fetch_until_known(key))
        return False

    def get(self, lane: Lane, epoch: int) -> UploadKeys:
        """Return keys of which `has` has returned True.

        Raises `InvalidInput`: expired if they are dead, unknown_epoch if there never were any.
        """
        key = (lane, epoch)
        found = Code.EXPIRED if self._drop_if_dead(key) else self._known.get(key, Code.EXPIRED)
        if isinstance(found, Code):
            raise InvalidInput(code=found)
        return found

    async def close(self) -> None:
        """Fetch no more, report no more changes, and drop all keys."""
        self.on_change = lambda: None
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._known.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _drop_if_dead(self, key: _Key) -> bool:
        if is_dead := self._times.is_dead(key[1], self._now()):
            self._known.pop(key, None)
        return is_dead

    async def _fetch_until_known(self, key: _Key) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for _ in PausedAttempts(RETRY_S):
                if self._drop_if_dead(key):
                    break
                try:
                    self._known[key] = await loop.run_in_executor(self._threads, self._fetch, *key)
                except (Unavailable, Refused) as error:
                    self._outage.report(Unavailable(error.sentence, Code.KEYS_UNAVAILABLE))
                    self.on_change()
                else:
                    self._outage.end_round()
                    break
            self._drop_at_death(key)
        finally:
            del self._fetching[key]
            self.on_change()

    def _drop_at_death(self, key: _Key) -> None:
        """Drop keys here and in the client when they die, also if no upload asks for them."""
        lives_s = (self._times.dies(key[1]) - self._now()).total_seconds()
        if lives_s > 0:
            asyncio.get_running_loop().call_later(lives_s, self._drop_at_death, key)
            return
        self._known.pop(key, None)
        self._source.drop_dead()

    def _fetch(self, lane: Lane, epoch: int) -> UploadKeys | Code:
        raw = list[bytes]()
        for ask, purpose in (
            (self._source.opening_key, uploads_for(lane)),
            (self._source.public_key, results_of(lane)),
            (self._source.public_key, KEPT),
        ):
            answer = ask(purpose, epoch, timeout_s=ANSWER_S)
            if answer is NoKey.EXPIRED:
                return Code.EXPIRED
            if answer is NoKey.UNKNOWN and epoch < self._times.number(self._now()):
                return Code.UNKNOWN_EPOCH
            if isinstance(answer, NoKey):
                raise Unavailable(f"{purpose}: {answer}", Code.KEYS_UNAVAILABLE)
            raw.append(answer)
        private, results, kept = raw
        return UploadKeys(
            EpochOpener.of(Epoch(uploads_for(lane), epoch), private),
            EpochRecipient.of(Epoch(results_of(lane), epoch), results),
            EpochRecipient.of(Epoch(KEPT, epoch), kept),
        )

"""The public key with which a producer seals now, fetched in a thread before it is needed.

Rules, all of them:

* Looking at the key asks no network.  While the service is unavailable, the key of the next epoch
  is used, which is known already; once that epoch has ended, there is none.
* The thread fetches as soon as the first known epoch has ended.  After each attempt it wakes those
  who wait, whether there is a key then or not.
* Nothing in the thread refers to the object that users hold: it ends when that is closed, or
  collected.
"""

import asyncio
import os
import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import suppress

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import ClientClosed, Code, ErasestreamError, Unavailable
from erasestream.topics.kafka.backoff import pause_s
from erasestream.topics.keys.answers import SealingKey
from erasestream.topics.keys.client import KeyClient

LOOK_EVERY_S = 1.0
"""Interval of looks at the clock."""
MAX_PAUSE_S = 5.0
"""Longest pause between attempts."""


class SealingKeySource:
    """The key to seal with for one purpose.  Thread-safe; must not cross a fork."""

    def __init__(self, keys: KeyClient, purpose: str, *, timeout_s: float) -> None:
        """Fetch the first keys.

        Raises `Unavailable` (keys_unavailable) if the service has not answered within the timeout,
        and `NotAuthorized` if the catalog does not let this role seal for the purpose.
        """
        keys.fetch_sealing_keys(purpose, timeout_s=timeout_s)
        self._renewal = _Renewal(keys, purpose)
        thread = threading.Thread(target=self._renewal.run, name=f"keys {purpose}", daemon=True)
        thread.start()
        self._end = weakref.finalize(self, self._renewal.stop)
        self._end.atexit = False

    def current(self) -> SealingKey | None:
        """Return the key of this epoch, or of the next if only that is known."""
        return next(iter(self._renewal.known()), None)

    def wait(self, timeout_s: float) -> SealingKey:
        """Wait for a key.

        Raises `Unavailable` (keys_unavailable) if there is none at the timeout, `Refused` (closed),
        and what an attempt to fetch raises that waiting does not change.
        """
        deadline = Deadline(timeout_s, time.monotonic)
        while True:
            attempt = self._next_attempt()
            if (key := self.current()) is not None:
                return key
            if deadline.has_passed:
                raise self._unavailable()
            with suppress(TimeoutError):
                attempt.result(deadline.remaining_s)

    async def wait_async(self, timeout_s: float) -> SealingKey:
        """Await a key.  Raises as `wait`."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    attempt = self._next_attempt()
                    if (key := self.current()) is not None:
                        return key
                    await asyncio.wrap_future(attempt)
        except TimeoutError:
            raise self._unavailable() from None

    def _next_attempt(self) -> Future[None]:
        attempt = self._renewal.next_attempt()
        if not self._end.alive:
            raise ClientClosed
        return attempt

    def _unavailable(self) -> Unavailable:
        return self._renewal.failure or Unavailable("no answer yet", Code.KEYS_UNAVAILABLE)

    def close(self) -> None:
        """End the thread, and wake those who wait.  From anywhere; idempotent."""
        self._end()


class _Renewal:
    """The thread's part."""

    def __init__(self, keys: KeyClient, purpose: str) -> None:
        self.failure: Unavailable | None = None
        self._keys = keys
        self._purpose = purpose
        self._process = os.getpid()
        self._changed = threading.Condition()  # reentrant: collected in a thread that holds it
        self._attempt = _running()
        self._failures = 0
        self._is_stopped = False

    def known(self) -> tuple[SealingKey, ...]:
        return self._keys.known_sealing_keys(self._purpose)

    def next_attempt(self) -> Future[None]:
        """Return what is done after the next attempt, successful or not; it is never cancelled."""
        with self._changed:
            return self._attempt

    def stop(self) -> None:
        self._is_stopped = True
        if os.getpid() != self._process:
            return  # of the parent, where a thread may have held the lock
        with self._changed:
            self._changed.notify_all()
        self._complete(None)

    def run(self) -> None:
        while not self._is_stopped:
            if len(self.known()) > 1:
                self._wait(LOOK_EVERY_S)
            else:
                self._fetch()

    def _fetch(self) -> None:
        failure: ErasestreamError | None = None
        try:
            self._keys.fetch_sealing_keys(self._purpose, timeout_s=0)
        except Unavailable as error:
            self.failure = error
        except ErasestreamError as error:
            failure = error
        else:
            self.failure = None
        self._failures = self._failures + 1 if failure or self.failure else 0
        self._complete(failure)
        self._wait(pause_s(self._failures, MAX_PAUSE_S) if self._failures else MAX_PAUSE_S)

    def _wait(self, timeout_s: float) -> None:
        with self._changed:
            if not self._is_stopped:
                self._changed.wait(timeout_s)

    def _complete(self, failure: ErasestreamError | None) -> None:
        with self._changed:
            done, self._attempt = self._attempt, _running()
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)


def _running() -> Future[None]:
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future

"""Keys of given epochs that a client holds, until they die.

Rules:

* A key is dropped when it dies, by the client's own clock.
* That a key is dead is remembered, as it stays dead.
"""

import math

from erasestream.schemas.clocks import WallClock
from erasestream.topics.keys.answers import EpochKey, KeyRequest, NoKey

MAX_EXPIRED = 4096
"""Dead keys that are remembered, so that a backlog of old records is no load on the service."""


class EpochKeyCache:
    """Keys of epochs, by what was asked.  Not thread-safe."""

    def __init__(self, now: WallClock) -> None:
        self._now = now
        self._keys: dict[KeyRequest, EpochKey] = {}
        self._next_death_s = math.inf
        """When the first of them dies."""
        self._expired: set[KeyRequest] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, request: KeyRequest) -> bytes | NoKey | None:
        """Return the raw key, or that it is dead; None if neither is known."""
        self.drop_dead()
        if (cached := self._keys.get(request)) is not None:
            return cached.key
        return NoKey.EXPIRED if request in self._expired else None

    def take(self, request: KeyRequest, answer: EpochKey | NoKey) -> bytes | NoKey:
        """Keep what the service answered, and return it as `get` does."""
        if isinstance(answer, EpochKey) and answer.dies_s > self._now().timestamp():
            self._keys[request] = answer
            self._next_death_s = min(self._next_death_s, answer.dies_s)
            return answer.key
        if isinstance(answer, EpochKey) or answer is NoKey.EXPIRED:
            self._remember_expired(request)
            return NoKey.EXPIRED
        return answer

    def drop_dead(self) -> None:
        """Drop every key that has died."""
        now_s = self._now().timestamp()
        if now_s >= self._next_death_s:
            alive = {r: key for r, key in self._keys.items() if key.dies_s > now_s}
            self._keys = alive
            self._next_death_s = min((key.dies_s for key in alive.values()), default=math.inf)

    def _remember_expired(self, request: KeyRequest) -> None:
        if len(self._expired) >= MAX_EXPIRED:
            self._expired.clear()
        self._expired.add(request)

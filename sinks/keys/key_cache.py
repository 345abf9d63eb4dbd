"""Keys of grants in memory: for a bounded time, and in a bounded number.

Keys leave by themselves once their time is over, asked for or not, and however
long other threads wait for a bucket.  Python cannot overwrite them: their memory is free, and may
hold them until something else is written there.
"""

import math
import threading
import weakref
from typing import NamedTuple

from erasestream.schemas.clocks import Clock
from erasestream.schemas.ids import GrantId

MAX_GRANTS = 1024


class _Held(NamedTuple):
    keys: tuple[bytes, ...]
    since_s: float


class KeyCache:
    """Keys by grant.  Thread-safe."""

    def __init__(self, *, limit_s: float, clock: Clock, most: int = MAX_GRANTS) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._most = most
        self._held: dict[GrantId, _Held] = {}
        self._timer: threading.Timer | None = None
        self._wakes_s = math.inf
        """When the timer ends: no later than the time of any keys here."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, grant: GrantId) -> tuple[bytes, ...]:
        """Return the keys of a grant; none if their time is over."""
        with self._lock:
            held = self._held.get(grant)
            return held.keys if held and not self._is_over(held) else ()

    def put(self, grant: GrantId, keys: tuple[bytes, ...], since_s: float) -> None:
        """Hold keys until `limit_s` after a time; of too many grants, drop the first."""
        with self._lock:
            self._held.pop(grant, None)
            self._held[grant] = _Held(keys, since_s)
            if len(self._held) > self._most:
                del self._held[next(iter(self._held))]
            if since_s + self._limit_s < self._wakes_s:
                self._watch()

    def evict(self, grant: GrantId) -> None:
        """Drop the keys of a grant."""
        with self._lock:
            self._held.pop(grant, None)

    def drop_old(self) -> None:
        """Drop the keys whose time is over, and come back when the next one's is."""
        with self._lock:
            self._held = {g: held for g, held in self._held.items() if not self._is_over(held)}
            self._wakes_s = math.inf
            if self._held:
                self._watch()

    def _is_over(self, held: _Held) -> bool:
        return self._clock() - held.since_s >= self._limit_s

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wakes_s = min(held.since_s for held in self._held.values()) + self._limit_s
        left_s = max(0.0, wakes_s - self._clock())
        self._timer = threading.Timer(left_s, _drop_old, [weakref.ref(self)])
        self._timer.daemon = True
        self._timer.start()
        self._wakes_s = wakes_s


def _drop_old(cache: "weakref.ref[KeyCache]") -> None:
    if (found := cache()) is not None:
        found.drop_old()

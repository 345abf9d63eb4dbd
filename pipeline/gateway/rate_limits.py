"""Limits of each API key: images by their megapixels, and images at once.

The unit is an image of up to one megapixel; a larger one counts once for each megapixel.  A key may
use a minute's units at once, and gets them back evenly (the generic cell rate algorithm, ITU-T
I.371, Annex A).  An image that costs more than a minute's units waits until all of them are there.

Each gateway counts by itself.  For one event loop.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import NamedTuple

from erasestream.pipeline.gateway.problems import HTTP_SENTENCES, HttpCode, Problem
from erasestream.schemas.clocks import Clock, WallClock

WINDOW_S = 60.0
MANY_KEYS = 10_000
"""Keys whose units are counted before those that have all of theirs are dropped."""
RETRY_CONCURRENT_S = 1


class LimitNames(NamedTuple):
    """The unit that is counted, and the codes of refusals: too many in a minute, or at once."""

    unit: str
    rate: HttpCode
    at_once: HttpCode


IMAGES = LimitNames("images", HttpCode.RATE_LIMITED, HttpCode.TOO_MANY_AT_ONCE)
REQUESTS = LimitNames("requests", HttpCode.TOO_MANY_REQUESTS, HttpCode.TOO_MANY_REQUESTS)


class Allowance:
    """Units and images at once of one key, during a request."""

    def __init__(self, limits: "RateLimits", key_id: str) -> None:
        self._limits = limits
        self._key_id = key_id

    def charge(self, pixels: int) -> None:
        """Take the units of an image.  Raises `Problem` (rate_limited) if they are not there."""
        self._limits.take(self._key_id, max(1, math.ceil(pixels / 1e6)))

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that describe what is left."""
        return self._limits.headers(self._key_id)


class RateLimits:
    """Limits of all keys."""

    def __init__(
        self,
        *,
        per_minute: int,
        at_once: int,
        clock: Clock,
        now: WallClock,
        names: LimitNames = IMAGES,
    ) -> None:
        self._names = names
        self._per_minute = per_minute
        self._at_once = at_once
        self._unit_s = WINDOW_S / per_minute
        self._clock = clock
        self._now = now
        self._full_at: dict[str, float] = {}
        """When a key has all of its units again."""
        self._in_flight = Counter[str]()

    @contextmanager
    def admit(self, key_id: str) -> Iterator[Allowance]:
        """Count an image of this key until the block ends.

        Raises `Problem` (too_many_at_once, rate_limited).
        """
        if self._in_flight[key_id] >= self._at_once:
            raise self._refusal(key_id, self._names.at_once, RETRY_CONCURRENT_S)
        self._check(key_id, 1)
        self._in_flight[key_id] += 1
        try:
            yield Allowance(self, key_id)
        finally:
            self._in_flight[key_id] -= 1
            if not self._in_flight[key_id]:
                del self._in_flight[key_id]

    def take(self, key_id: str, units: int) -> None:
        """Take units.  Raises `Problem` (rate_limited)."""
        self._check(key_id, units)
        if len(self._full_at) >= MANY_KEYS:
            now_s = self._clock()
            self._full_at = {key: at for key, at in self._full_at.items() if at > now_s}
        self._full_at[key_id] = self._clock() + self._missing_s(key_id) + units * self._unit_s

    def headers(self, key_id: str) -> Mapping[str, str]:
        """Return the headers that describe what is left to a key.

        `RateLimit` of draft-ietf-httpapi-ratelimit-headers, and remove.bg's.
        """
        missing_s = self._missing_s(key_id)
        left = max(0, math.floor((WINDOW_S - missing_s) / self._unit_s + 1e-6))
        full_in_s = math.ceil(missing_s)
        return {
            "RateLimit-Policy": f'"{self._names.unit}";q={self._per_minute};w={int(WINDOW_S)}',
            "RateLimit": f'"{self._names.unit}";r={left};t={full_in_s}',
            "X-RateLimit-Limit": f"{self._per_minute}",
            "X-RateLimit-Remaining": f"{left}",
            "X-RateLimit-Reset": f"{math.ceil(self._now().timestamp()) + full_in_s}",
        }

    def _missing_s(self, key_id: str) -> float:
        """Return the time until a key has all of its units again."""
        return max(0.0, self._full_at.get(key_id, 0.0) - self._clock())

    def _check(self, key_id: str, units: int) -> None:
        missing_s = self._missing_s(key_id)
        allowed_s = max(0.0, WINDOW_S - units * self._unit_s)
        if missing_s > allowed_s + self._unit_s * 1e-6:
            after_s = math.ceil(missing_s - allowed_s)
            raise self._refusal(key_id, self._names.rate, after_s)

    def _refusal(self, key_id: str, code: HttpCode, after_s: int) -> Problem:
        headers = {**self.headers(key_id), "Retry-After": f"{max(1, after_s)}"}
        return Problem(HTTPStatus.TOO_MANY_REQUESTS, code, HTTP_SENTENCES[code], headers=headers)

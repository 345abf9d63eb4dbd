"""Limits of each API key."""

from datetime import UTC, datetime

import pytest

from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.rate_limits import RateLimits

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> RateLimits:
    return RateLimits(per_minute=60, at_once=2, clock=clock, now=lambda: NOW)


def send(limits: RateLimits, key: str, pixels: int = 100) -> None:
    with limits.admit(key) as allowance:
        allowance.charge(pixels)


def test_a_minutes_images_may_come_at_once_and_come_back_evenly(
    limits: RateLimits, clock: Clock
) -> None:
    for _ in range(60):
        send(limits, "a")
    with pytest.raises(Problem, match="rate_limited") as caught:
        send(limits, "a")
    assert caught.value.status == 429
    assert caught.value.headers["Retry-After"] == "1"
    assert caught.value.headers["X-RateLimit-Remaining"] == "0"
    assert caught.value.headers["RateLimit"] == '"images";r=0;t=60'
    send(limits, "b")
    clock.now_s += 1
    send(limits, "a")
    with pytest.raises(Problem):
        send(limits, "a")
    clock.now_s += 60
    assert limits.headers("a")["RateLimit"] == '"images";r=60;t=0'


def test_an_image_counts_once_for_each_megapixel(limits: RateLimits, clock: Clock) -> None:
    send(limits, "a", 10_000_001)
    assert limits.headers("a")["X-RateLimit-Remaining"] == "49"
    with pytest.raises(Problem) as caught:
        send(limits, "a", 50_000_000)
    assert caught.value.headers["Retry-After"] == "1"
    clock.now_s += 1
    send(limits, "a", 50_000_000)


def test_an_image_above_a_minutes_units_waits_for_all_of_them(
    limits: RateLimits, clock: Clock
) -> None:
    send(limits, "a")
    with pytest.raises(Problem):
        send(limits, "a", 100_000_000)
    clock.now_s += 1
    send(limits, "a", 100_000_000)
    clock.now_s += 100
    send(limits, "a", 60_000_000)


def test_images_at_once_are_counted_by_key(limits: RateLimits) -> None:
    with limits.admit("a"), limits.admit("a"):
        with pytest.raises(Problem, match="too_many_at_once"), limits.admit("a"):
            pass
        with limits.admit("b"):
            pass
    with limits.admit("a"):
        pass

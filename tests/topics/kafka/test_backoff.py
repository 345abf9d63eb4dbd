"""Retrying: which errors, how long, and how often it is logged."""

import logging
import threading
import time
from itertools import count

import pytest

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.topics.kafka.backoff import MAX_PAUSE_S, Backoff, pause_s, retry


class Pauses(threading.Event):
    """A stop event that records what it is asked to wait, and returns at once."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waited_s.append(timeout)
        return self.is_set()


class FailsAtFirst:
    """Raises the error so many times, then returns how often it was called."""

    def __init__(self, times: int, error: Exception) -> None:
        self._times, self._error = times, error
        self._calls = count(1)

    def __call__(self) -> int:
        call = next(self._calls)
        if call <= self._times:
            raise self._error
        return call


def test_pauses_grow_from_zero_to_the_longest() -> None:
    pauses = [pause_s(failures) for failures in range(1, 100)]
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_S


def test_unavailable_is_retried_with_growing_pauses() -> None:
    stopping = Pauses()
    assert retry(FailsAtFirst(7, Unavailable("no leader")), stopping=stopping, max_pause_s=1) == 8
    assert stopping.waited_s == pytest.approx([0, 0.1, 0.3, 0.7, 1, 1, 1])


def test_other_errors_are_raised_at_once() -> None:
    stopping = Pauses()
    with pytest.raises(Refused):
        retry(FailsAtFirst(1, Refused("no")), stopping=stopping)
    assert stopping.waited_s == []


def test_retrying_ends_at_the_deadline() -> None:
    times = iter([0.0, 1.0, 2.0, 2.5, 2.6, 3.0])  # made; then failed and paused in turn
    deadline = Deadline(3.0, lambda: next(times))
    stopping = Pauses()
    with pytest.raises(Unavailable, match="no leader"):
        retry(FailsAtFirst(9, Unavailable("no leader")), deadline=deadline, stopping=stopping)
    assert stopping.waited_s == pytest.approx([0, 0.1])


def test_a_pause_does_not_outlast_the_deadline() -> None:
    stopping = Pauses()
    backoff = Backoff(stopping=stopping)
    times = iter([0.0, 0.0, 2.0, 2.9])
    deadline = Deadline(3.0, lambda: next(times))
    backoff.failures = 90
    for _ in range(3):
        backoff.pause(deadline)
    assert stopping.waited_s == pytest.approx([3.0, 1.0, 0.1])


def test_retrying_ends_when_the_stage_is_to_stop() -> None:
    stopping = Pauses()
    stopping.set()
    with pytest.raises(Unavailable):
        retry(FailsAtFirst(9, Unavailable("no leader")), stopping=stopping)
    assert stopping.waited_s == []


def test_stopping_wakes_a_pause() -> None:
    stopping = threading.Event()
    attempts = count()

    def attempt() -> None:
        if next(attempts) == 3:
            stopping.set()
        raise Unavailable("no leader")

    with pytest.raises(Unavailable):
        retry(attempt, stopping=stopping, deadline=Deadline(3600, time.monotonic))


def test_success_shortens_the_next_pause() -> None:
    stopping = Pauses()
    backoff = Backoff(stopping=stopping)
    backoff.pause()
    backoff.pause()
    backoff.reset()
    backoff.pause()
    assert stopping.waited_s == pytest.approx([0, 0.1, 0])


def test_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        retry(FailsAtFirst(5, Unavailable("no leader")), stopping=Pauses(), event="waiting")
    assert [(each.message, each.reason) for each in caplog.records] == [("waiting", "no leader")]  # type: ignore[attr-defined]


def test_without_an_event_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    retry(FailsAtFirst(5, Unavailable("no leader")), stopping=Pauses())
    assert caplog.records == []

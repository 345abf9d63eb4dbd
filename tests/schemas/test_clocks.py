"""Deadlines, on a clock that the test advances."""

import pytest

from erasestream.schemas.clocks import Deadline


class Ticks:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Ticks:
    return Ticks()


def test_a_deadline_passes_after_its_timeout(clock: Ticks) -> None:
    deadline = Deadline(2.0, clock)
    assert not deadline.has_passed
    clock.now_s += 2.0
    assert deadline.has_passed


def test_remaining_time_is_never_negative(clock: Ticks) -> None:
    deadline = Deadline(2.0, clock)
    clock.now_s += 0.5
    assert deadline.remaining_s == pytest.approx(1.5)
    clock.now_s += 10.0
    assert deadline.remaining_s == 0.0


def test_a_slice_never_outlasts_the_deadline(clock: Ticks) -> None:
    deadline = Deadline(2.0, clock)
    assert deadline.slice_s(0.5) == 0.5
    clock.now_s += 1.75
    assert deadline.slice_s(0.5) == pytest.approx(0.25)


def test_a_timeout_of_zero_has_passed_at_once(clock: Ticks) -> None:
    assert Deadline(0.0, clock).has_passed


def test_a_timeout_that_is_no_number_waits_for_nothing(clock: Ticks) -> None:
    assert Deadline(float("nan"), clock).has_passed

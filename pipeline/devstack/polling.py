"""Waiting for a condition of another process: polled, until a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

from erasestream.schemas.clocks import Deadline

T = TypeVar("T")


def poll_until(
    condition: Callable[[], T | None], *, timeout_s: float, poll_s: float = 0.05
) -> T | None:
    """Return the condition's first true value, or None after the timeout.

    Errors of the condition end the wait.
    """
    deadline = Deadline(timeout_s, time.monotonic)
    while not (value := condition()):
        if deadline.has_passed:
            return None
        time.sleep(deadline.slice_s(poll_s))
    return value

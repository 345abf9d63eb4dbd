"""Waiting for something to become true: polled, with a deadline, and never by the clock."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 60.0
POLL_S = 0.03


def eventually(
    what: str,
    condition: Callable[[], T | None],
    *,
    deadline_s: float = DEADLINE_S,
    poll_s: float = POLL_S,
) -> T:
    """What the condition gives as soon as it is true; fails after the deadline."""
    deadline = time.monotonic() + deadline_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {deadline_s:g} s"
        time.sleep(poll_s)
    return answer

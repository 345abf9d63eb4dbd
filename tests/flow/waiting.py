"""Wait for a condition: poll it until it holds or a deadline passes."""

import time
from collections.abc import Callable
from typing import TypeVar

from erasestream.schemas.clocks import Deadline

T = TypeVar("T")

DEADLINE_S = 180.0
POLL_S = 0.03


def eventually(
    what: str,
    condition: Callable[[], T | None],
    *,
    deadline_s: float = DEADLINE_S,
    poll_s: float = POLL_S,
) -> T:
    """Return the condition's first true value; fail once the deadline has passed."""
    deadline = Deadline(deadline_s, time.monotonic)
    while not (answer := condition()):
        assert not deadline.has_passed, f"{what}: not within {deadline_s:g} s"
        time.sleep(poll_s)
    return answer

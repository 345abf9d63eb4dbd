"""The children of the pool, of which one is left to the other lanes.

An image takes from milliseconds to its deadline.  If one lane occupied all children, an upload of
another lane would wait for the first of them to end.  So the last free child goes only to a lane
that has none, as long as other lanes send uploads at all: a lane with many uploads beside one with
few gets all children but one, and a lane that is alone gets all.
"""

import time
from collections import Counter
from collections.abc import Hashable

from erasestream.schemas.clocks import Clock, Deadline

PRESENT_S = 10.0
"""A lane counts as sending for so long after each upload."""


class ChildSlots:
    """Free children, and how many each lane occupies.  One thread."""

    def __init__(self, children: int, *, clock: Clock = time.monotonic) -> None:
        self._free = children
        self._clock = clock
        self._occupied: Counter[Hashable] = Counter()
        self._present: dict[Hashable, Deadline] = {}

    def add_upload(self, lane: Hashable) -> None:
        """Note that a lane has sent an upload."""
        self._present[lane] = Deadline(PRESENT_S, self._clock)

    def is_free_for(self, lane: Hashable) -> bool:
        """Return whether a lane may occupy a child now."""
        if self._free != 1 or not self._occupied[lane]:
            return self._free > 0
        return all(each == lane or until.has_passed for each, until in self._present.items())

    def occupy(self, lane: Hashable) -> None:
        """Give a lane a child."""
        self._free -= 1
        self._occupied[lane] += 1

    def free(self, lane: Hashable) -> None:
        """Take a child back."""
        self._free += 1
        self._occupied[lane] -= 1

"""Decide when the consent we know is new enough to act on.

A revocation must win every race it could have won: an output is held until the view has
applied every decision that the broker had accepted when the output was read.  No I/O, no
clock: the router brings marks and applied offsets and asks.

Rules, all of them:

* A view behind the mark answers WAIT, whatever it holds.
* The mark covers exactly the partitions of the view, the same each time; another set stops
  the process.
* Marks and applied offsets only grow; one that shrinks stops the process.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Generic, TypeVar

from erasestream.schemas.errors import InvariantBroken

P = TypeVar("P")


class Verdict(Enum):
    """What the router does with the outputs that it has read."""

    DECIDE = auto()
    WAIT = auto()


class FreshnessBarrier(Generic[P]):
    """Compares how far the decisions reach with how far they are applied."""

    def __init__(self) -> None:
        self._mark: dict[P, int] = {}
        self._applied: dict[P, int] = {}

    def judge(self, *, mark: Mapping[P, int], applied: Mapping[P, int]) -> Verdict:
        """Whether what was read before `mark` was taken can be decided now."""
        if mark.keys() != applied.keys():
            raise InvariantBroken("mark and view are of different partitions")
        self._mark = _grown(self._mark, mark, "mark")
        self._applied = _grown(self._applied, applied, "view")
        behind = any(applied[partition] < offset for partition, offset in mark.items())
        return Verdict.WAIT if behind else Verdict.DECIDE


def _grown(before: Mapping[P, int], now: Mapping[P, int], what: str) -> dict[P, int]:
    if before and before.keys() != now.keys():
        raise InvariantBroken(f"{what} is of other partitions than before")
    for partition, offset in now.items():
        if offset < before.get(partition, 0):
            raise InvariantBroken(f"{what} of {partition} went back to {offset}")
    return dict(now)

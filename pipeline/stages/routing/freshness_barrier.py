"""Decide whether the applied consent decisions are fresh enough to act on.

A revocation must win every race that it could have won: results are held until the view has
applied every decision that the brokers had accepted when the results were read.  No I/O, no
clock: the caller passes the mark and the applied offsets of one lane's partitions.

Rules, all of them:

* A view behind the mark answers WAIT, whatever it holds.
* The mark covers exactly the partitions of the view, the same each time.
* Marks and applied offsets only grow.  One that shrinks, and every other set of partitions, is
  `WentBack`: what the lane's decisions were is not known any more.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Generic, TypeVar

from erasestream.schemas.errors import InvariantBroken

P = TypeVar("P")


class Verdict(Enum):
    """Whether the results that were read can be decided."""

    DECIDE = auto()
    WAIT = auto()


class WentBack(InvariantBroken):
    """Decisions that there were are gone."""


class FreshnessBarrier(Generic[P]):
    """Compares the end offsets of a lane's decisions with the offsets that are applied."""

    def __init__(self) -> None:
        self._mark: dict[P, int] = {}
        self._applied: dict[P, int] = {}

    def check(self, *, mark: Mapping[P, int], applied: Mapping[P, int]) -> Verdict:
        """Return whether the results that were read before `mark` was taken can be decided.

        Raises `WentBack`.
        """
        if mark.keys() != applied.keys():
            raise WentBack("mark and view are of different partitions")
        self._mark = _grown(self._mark, mark, "mark")
        self._applied = _grown(self._applied, applied, "view")
        behind = any(applied[partition] < offset for partition, offset in mark.items())
        return Verdict.WAIT if behind else Verdict.DECIDE


def _grown(before: Mapping[P, int], now: Mapping[P, int], what: str) -> dict[P, int]:
    if before and before.keys() != now.keys():
        raise WentBack(f"{what} is of other partitions than before")
    for partition, offset in now.items():
        if offset < before.get(partition, 0):
            raise WentBack(f"{what} of {partition} went back to {offset}")
    return dict(now)

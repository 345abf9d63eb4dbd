"""Report in the ledger that pictures were lost: their keys died before they were stored.

An entry's id follows from the first picture's position, so a repetition is seen as one.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.schemas.ids import Lane, upload_id_of_position
from erasestream.topics.kafka.records import Partition


class LostPicture(NamedTuple):
    """A picture whose key is dead, in the order of findings: by lane, then by position."""

    lane: Lane
    at: Partition
    offset: int


class LossReport:
    """Writes one finding for each lane of a batch."""

    def __init__(self, write: Callable[[Lane, Finding], None], *, now: WallClock = utc_now) -> None:
        """`write` returns once the ledger has the entry; it raises `Unavailable`."""
        self._write = write
        self._now = now

    def report(self, lost: Iterable[LostPicture]) -> None:
        """Write the findings.  Raises `Unavailable`; writing them again is harmless."""
        for lane, pictures in groupby(sorted(lost), key=lambda each: each.lane):
            self._write(lane, self._finding(pictures))

    def _finding(self, pictures: Iterator[LostPicture]) -> Finding:
        first, *others = pictures
        kind = FindingKind.RETAINED_IMAGES_EXPIRED
        return Finding(
            id=upload_id_of_position(f"{kind}:{first.at.topic}", first.at.number, first.offset),
            time=self._now(),
            kind=kind,
            detail=f"{1 + len(others)} images of {first.lane}, from {first.at} at {first.offset}",
        )

"""Report in the ledger that pictures were lost before they were stored.

Their keys have died, or the lives of their records have ended: those that were read are named by
the ids of their uploads.

An entry's id follows from the first picture's position, so a repetition is seen as one.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from erasestream.pipeline.stages.encryption.held_records import WaitingRecord
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

    def __init__(self, write: Callable[[str, Finding], None], *, now: WallClock = utc_now) -> None:
        """`write` returns once the ledger has the entry of a key; it raises `Unavailable`."""
        self._write = write
        self._now = now

    def report(self, lost: Iterable[LostPicture]) -> None:
        """Write the findings.  Raises `Unavailable`; writing them again is harmless."""
        for lane, pictures in groupby(sorted(lost), key=lambda each: each.lane):
            self._write(lane, self._finding(pictures))

    def report_purged(self, records: Iterable[WaitingRecord]) -> None:
        """Name pictures that were read, and deleted before they were stored; see `report`."""
        for lane, at, offset, name in ((e.lane, e.at, e.offset, e.id) for e in records):
            kind = FindingKind.RETAINED_IMAGES_PURGED
            self._write(lane, self._entry(kind, at, offset, f"{at} at {offset}, upload {name}"))

    def report_unread(self, at: Partition, offsets: range) -> None:
        """Count records that were deleted before they were read; see `report`."""
        kind, first = FindingKind.RETAINED_IMAGES_PURGED, offsets.start
        detail = f"up to {len(offsets)} images of any lane, never read, from {at} at {first}"
        self._write(at.topic, self._entry(kind, at, first, detail))

    def report_unreadable(self, at: Partition, offset: int) -> None:
        """Name a record that could not be read before its life ended; see `report`."""
        kind = FindingKind.RETAINED_IMAGES_PURGED
        detail = f"{at} at {offset}, unreadable"
        self._write(at.topic, self._entry(kind, at, offset, detail))

    def _finding(self, pictures: Iterator[LostPicture]) -> Finding:
        first, *others = pictures
        detail = f"{1 + len(others)} images of {first.lane}, from {first.at} at {first.offset}"
        kind = FindingKind.RETAINED_IMAGES_EXPIRED
        return self._entry(kind, first.at, first.offset, detail)

    def _entry(self, kind: FindingKind, at: Partition, offset: int, detail: str) -> Finding:
        name = upload_id_of_position(f"{kind}:{at.topic}", at.number, offset)
        return Finding(id=name, time=self._now(), kind=kind, detail=detail)

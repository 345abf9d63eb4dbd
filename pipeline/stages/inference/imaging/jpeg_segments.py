"""Walk through the segments of a JPEG before its first scan, also past those with a wrong length.

Rules, all of them:

* Bytes between segments are passed over, as by libjpeg.
* A length is doubtful only in a segment about the picture (APP, COM), and only if no marker follows
  where it points.  The walk then continues at the next segment that is followed by another one; a
  JPEG within the doubtful one, its preview, is passed over.
* The walk ends with the first scan, which includes the rest of the file, or with the end, or after
  more segments than any photo has: decoders keep a record of each.

Pure.  Source: ITU-T T.81, annex B.1.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

START = b"\xff\xd8"
END = b"\xff\xd9"
SCAN = 0xDA
_HEAD_BYTES = 4
"""Marker and length."""
_LENGTH_BYTES = 2
_FIRST_MARKER = 0xC0
_WITHOUT_LENGTH = frozenset({*range(0xD0, 0xD9)})
NOTES = frozenset({*range(0xE0, 0xF0), 0xFE})
"""APP0 to APP15, COM."""
_MARKER = re.compile(rb"\xff([^\x00\xff])")
_CANDIDATE = re.compile(rb"\xff(?:\xd8\xff|[\xc0-\xc2\xc4\xda\xdb\xdd\xe0-\xef\xfe])")
_FOLLOWING = re.compile(rb"\xff[\xc0-\xff]")
_MAX_SEGMENTS = 10_000
"""A file of 30 MB has 480 of the longest."""
_MAX_SEARCHES = 8
_MAX_CANDIDATES = 1000
"""Of segments in one search.  A file with more of them, or more wrong lengths, is noise."""


class Segment(NamedTuple):
    """Place of a segment in its file."""

    marker: int
    begin: int
    end: int

    @property
    def content(self) -> slice:
        """Place of the content."""
        return slice(self.begin + _HEAD_BYTES, self.end)


def segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments of a file that begins with `START`, the first scan as the last one."""
    at, searches, count = len(START), 0, 0
    while (found := _MARKER.search(data, at)) and count < _MAX_SEGMENTS:
        marker = found[1][0]
        if found[0] == END:
            return
        if marker < _FIRST_MARKER or marker in _WITHOUT_LENGTH:
            at = found.end()
            continue
        begin = found.start()
        if marker == SCAN:
            yield Segment(marker, begin, len(data))
            return
        segment = _segment_at(data, marker, begin)
        if marker in NOTES and not _leads_to_marker(data, segment):
            searches += 1
            following = _next_segment(data, begin + _HEAD_BYTES)
            if following is None or searches > _MAX_SEARCHES:
                return
            segment = Segment(marker, begin, following)
        yield segment
        at, count = segment.end, count + 1


def _segment_at(data: bytes, marker: int, begin: int) -> Segment:
    return Segment(marker, begin, begin + 2 + int.from_bytes(data[begin + 2 : begin + 4]))


def _leads_to_marker(data: bytes, segment: Segment) -> bool:
    if segment.end < segment.begin + 2 + _LENGTH_BYTES:
        return False
    return _FOLLOWING.match(data, segment.end) is not None


def _next_segment(data: bytes, at: int) -> int | None:
    """Return where the next segment begins that is followed by another one."""
    for _ in range(_MAX_CANDIDATES):
        found = _CANDIDATE.search(data, at)
        if found is None:
            return None
        begin = found.start()
        if found[0].startswith(START):
            at = data.find(END, found.end()) + len(END)
            if at < found.end():
                return None
        elif _leads_to_marker(data, _segment_at(data, data[begin + 1], begin)):
            return begin
        else:
            at = begin + 1
    return None

"""Replay mark: the last routed upload, stored in the metadata of a committed offset.

Offset and mark are one atomic commit, so no crash can separate them.  Format:
`1:<topic id of uploads>:<offset>`, where 1 is the version and the offset -1 means that nothing
was routed yet.  After a loss `:<unread below>` follows until the mark has reached it.  Pure.
"""

import re
from typing import NamedTuple

from erasestream.schemas.errors import InvariantBroken

_FORM = re.compile(
    r"1:(?P<topic_id>[A-Za-z0-9_-]{22}):(?P<offset>-1|0|[1-9][0-9]{0,18})"
    r"(:(?P<unread_below>[1-9][0-9]{0,18}))?"
)


class ReplayMark(NamedTuple):
    """The last routed upload of one partition."""

    topic_id: str
    offset: int
    unread_below: int = 0
    """Results of uploads below this offset may be deleted unread; 0 if none are."""

    def __str__(self) -> str:
        # Omitted once the mark has passed it, so that every mark has one form.
        loss = f":{self.unread_below}" if self.unread_below > self.offset + 1 else ""
        return f"1:{self.topic_id}:{self.offset}{loss}"

    def at(self, offset: int) -> "ReplayMark":
        """Return the mark after routing the upload at this offset."""
        return ReplayMark(self.topic_id, offset, self.unread_below)

    @classmethod
    def parse(cls, metadata: str | None, *, where: str) -> "ReplayMark":
        """Parse the metadata of the committed offset of `where`.

        Raises `InvariantBroken` if it is missing or invalid: going on without it would lose or
        repeat records.
        """
        match = _FORM.fullmatch(metadata or "")
        if match is None:
            raise InvariantBroken(
                f"{where}: the committed offset has no replay mark; see `erasestream repair`"
            )
        mark = cls(
            topic_id=match["topic_id"],
            offset=int(match["offset"]),
            unread_below=int(match["unread_below"] or 0),
        )
        if str(mark) != metadata:
            raise InvariantBroken(
                f"{where}: a replay mark in non-canonical form; see `erasestream repair`"
            )
        return mark

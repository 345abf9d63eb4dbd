"""The replay mark: which upload was routed last, kept in the metadata of a committed offset.

Position and mark are one atomic write, so no crash can part them.  Written form:
`1:<topic id of uploads>:<offset>`, where 1 is the version of the form and the offset -1
says that nothing was routed yet.  After a loss `:<unread below>` follows, until the mark has
got there.  Pure.
"""

import re
from typing import NamedTuple

from erasestream.schemas.errors import InvariantBroken

_FORM = re.compile(
    r"1:(?P<topic_id>[A-Za-z0-9_-]{22}):(?P<offset>-1|0|[1-9][0-9]{0,18})"
    r"(:(?P<unread_below>[1-9][0-9]{0,18}))?"
)


class ReplayMark(NamedTuple):
    """The upload that was routed last in one partition."""

    topic_id: str
    offset: int
    unread_below: int = 0
    """Results of uploads below this may be gone although nobody has read them; 0: none are."""

    def __str__(self) -> str:
        # Past it, it says nothing any more; so every mark has one form.
        loss = f":{self.unread_below}" if self.unread_below > self.offset + 1 else ""
        return f"1:{self.topic_id}:{self.offset}{loss}"

    def at(self, offset: int) -> "ReplayMark":
        """This mark once the upload at the offset is routed."""
        return ReplayMark(self.topic_id, offset, self.unread_below)

    @classmethod
    def parse(cls, metadata: str | None, *, where: str) -> "ReplayMark":
        """Read the metadata of the committed offset of `where`.

        Raises `InvariantBroken` if it is missing or not ours: going on without it would
        lose or repeat records.
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
                f"{where}: a replay mark that nobody wrote; see `erasestream repair`"
            )
        return mark

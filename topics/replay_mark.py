"""The replay mark: which upload was routed last, kept in the metadata of a committed offset.

Position and mark are one atomic write, so no crash can part them.  Written form:
`1:<topic id of uploads>:<offset>`, where 1 is the version of the form and the offset -1
says that nothing was routed yet.  Pure.
"""

import re
from dataclasses import dataclass

from erasestream.schemas.errors import InvariantBroken

_FORM = re.compile(r"1:(?P<topic_id>[A-Za-z0-9_-]{22}):(?P<offset>-1|0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, kw_only=True)
class ReplayMark:
    """The upload that was routed last in one partition."""

    topic_id: str
    offset: int

    def __str__(self) -> str:
        return f"1:{self.topic_id}:{self.offset}"

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
        return cls(topic_id=match["topic_id"], offset=int(match["offset"]))

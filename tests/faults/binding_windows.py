"""What follows from what owners were told, whoever decided for them and in whatever order.

Pure.  A call of a writer is an interval, from before it was made until it was answered: its
decision was made at some moment in between, or not at all.  Two writers may decide for one
account at once, so a recorded decision binds an upload only where no other call can have
changed it:

* A *revocation* binds from its answer on, until anybody begins to grant.  It says nothing if a
  call to grant was still open when it began: that may have come after it.  A grant that was
  given up before is none of these: it never counts (`docs/decisions/0015`).
* A *grant* binds likewise, until anybody begins to revoke.  A call that was given up may still
  land, to the owner's harm and never to their surprise, as a revocation: one is open until it
  is answered and the last of its records is appended.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

NEVER = 2**62
Account = tuple[str, str]
"""Lane and account."""

SKEW_MS = 2000
"""An upload counts as made after a grant only if it was appended later by more than this."""


class WriterCall(NamedTuple):
    """A call of a writer about one account; `NEVER` is what has not happened yet."""

    actor: str
    """The call's own: the records that it wrote bear it."""
    writer: int
    grants: bool
    begun_ms: int
    answered_ms: int = NEVER
    decision_id: str | None = None
    """What it recorded; None if nothing was written, or nobody knows."""
    is_given_up: bool = False
    confirmed_ms: int = NEVER


class BindingWindows:
    """When recorded decisions of one kind bind the uploads of one account."""

    def __init__(self, windows: Iterable[tuple[int, int]]) -> None:
        """Each from one moment to another, both of them outside."""
        ordered = sorted(windows)
        self._from = [begin for begin, _ in ordered]
        self._until = list(accumulate((until for _, until in ordered), max))

    def until(self, moment_ms: int) -> int:
        """How far those reach that have begun before this moment; 0 if none has."""
        begun = bisect_left(self._from, moment_ms)
        return self._until[begun - 1] if begun else 0


def revoked(calls: Sequence[WriterCall]) -> BindingWindows:
    """Where an account is not opted in, since a revocation was recorded."""
    own = [(call.answered_ms, call.begun_ms) for call in calls if _is_recorded(call, grants=False)]
    return BindingWindows(_binding(own, _to_grant(calls)))


def confirmed(calls: Sequence[WriterCall]) -> BindingWindows:
    """The same, since a revocation was confirmed."""
    own = [(call.confirmed_ms, call.begun_ms) for call in calls if call.confirmed_ms < NEVER]
    return BindingWindows(_binding(own, _to_grant(calls)))


def granted(calls: Sequence[WriterCall], landed: Mapping[str, int]) -> BindingWindows:
    """Where an account is opted in, since a grant was recorded.

    `landed`: of each call, by its actor, when the last of its records was appended.
    """
    own = [(call.answered_ms, call.begun_ms) for call in calls if _is_recorded(call, grants=True)]
    other = []
    for call in calls:
        if call.is_given_up:
            end = max(call.answered_ms, landed.get(call.actor, 0))
            other.append((end, call.begun_ms))
        elif not call.grants or call.answered_ms == NEVER:
            other.append((call.answered_ms, call.begun_ms))
    return BindingWindows(_binding(own, other))


def _is_recorded(call: WriterCall, *, grants: bool) -> bool:
    return call.grants is grants and call.decision_id is not None


def _to_grant(calls: Sequence[WriterCall]) -> list[tuple[int, int]]:
    return [(call.answered_ms, call.begun_ms) for call in calls if call.grants]


def _binding(
    own: Iterable[tuple[int, int]], other: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """From where to where each own one binds: it, and those that may undo it, as (end, begin)."""
    ordered = sorted(other)
    ends = [end for end, _ in ordered]
    first = [*accumulate((begun for _, begun in reversed(ordered)), min, initial=NEVER)][::-1]
    for from_ms, begun_ms in own:
        yield from_ms, first[bisect_left(ends, begun_ms)]

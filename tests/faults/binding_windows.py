"""When a recorded decision binds the uploads of an account, by any writer and in any order.

Pure.  A call of a consent writer is an interval, from before the call until it returned: its
decision was made at some moment in between, or not at all.  Two writers may decide for one
account at once, so a recorded decision binds an upload only where no other call can have
changed it:

* A *revocation* binds from the return of its call until any call to grant begins.  It does not
  bind if a call to grant was still open when it began: that grant may have come after it.  A
  grant that was given up before is no exception: it never counts (`docs/decisions/0015`).
* A *grant* likewise binds until any call to revoke begins.  A call that was given up may still
  be appended later, to the owner's harm and never to their surprise, as a revocation: it is
  open until it has returned and the last of its records is appended.
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
    """A call of a consent writer about one account; `NEVER` for what has not happened yet."""

    actor: str
    """Unique to the call: the records that it wrote carry it."""
    writer: int
    grants: bool
    begun_ms: int
    returned_ms: int = NEVER
    decision_id: str | None = None
    """The decision that it recorded; None if nothing was written, or the outcome is unknown."""
    is_given_up: bool = False
    confirmed_ms: int = NEVER


class BindingWindows:
    """The intervals in which recorded decisions of one kind bind the uploads of one account."""

    def __init__(self, windows: Iterable[tuple[int, int]]) -> None:
        """Take the start and end of each interval, both excluded."""
        ordered = sorted(windows)
        self._from = [begin for begin, _ in ordered]
        self._until = list(accumulate((until for _, until in ordered), max))

    def until(self, moment_ms: int) -> int:
        """Return the latest end of the intervals that begin before this moment; 0 if none does."""
        begun = bisect_left(self._from, moment_ms)
        return self._until[begun - 1] if begun else 0


def revoked(calls: Sequence[WriterCall]) -> BindingWindows:
    """Return when the account is not opted in, from the record of each revocation on."""
    own = [(call.returned_ms, call.begun_ms) for call in calls if _is_recorded(call, grants=False)]
    return BindingWindows(_windows(own, _grants(calls)))


def confirmed(calls: Sequence[WriterCall]) -> BindingWindows:
    """Return when the account is not opted in, from the confirmation of each revocation on."""
    own = [(call.confirmed_ms, call.begun_ms) for call in calls if call.confirmed_ms < NEVER]
    return BindingWindows(_windows(own, _grants(calls)))


def granted(calls: Sequence[WriterCall], last_appended: Mapping[str, int]) -> BindingWindows:
    """Return when the account is opted in, from the record of each grant on.

    `last_appended`: per actor, when the last record of that call was appended.
    """
    own = [(call.returned_ms, call.begun_ms) for call in calls if _is_recorded(call, grants=True)]
    opposing = []
    for call in calls:
        if call.is_given_up:
            end = max(call.returned_ms, last_appended.get(call.actor, 0))
            opposing.append((end, call.begun_ms))
        elif not call.grants or call.returned_ms == NEVER:
            opposing.append((call.returned_ms, call.begun_ms))
    return BindingWindows(_windows(own, opposing))


def _is_recorded(call: WriterCall, *, grants: bool) -> bool:
    return call.grants is grants and call.decision_id is not None


def _grants(calls: Sequence[WriterCall]) -> list[tuple[int, int]]:
    return [(call.returned_ms, call.begun_ms) for call in calls if call.grants]


def _windows(
    own: Iterable[tuple[int, int]], opposing: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the interval in which each own call binds; calls are given as (end, begin)."""
    ordered = sorted(opposing)
    ends = [end for end, _ in ordered]
    first = [*accumulate((begun for _, begun in reversed(ordered)), min, initial=NEVER)][::-1]
    for from_ms, begun_ms in own:
        yield from_ms, first[bisect_left(ends, begun_ms)]

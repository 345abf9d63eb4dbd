"""End offsets of groups of partitions, of which one without a leader delays no other.

Rules, all of them:

1. One request asks for all groups.  It is answered only once all of its leaders have answered, so
   after `SPLIT_S` each group is asked for by a request of its own, and those that are answered
   with the first count.
2. A group that is not answered so is *slow*.  From then on it is asked for by a request of its own,
   which nothing waits for.  Once that is answered, the group is asked for with the others again:
   a late answer may be older than what was read since.
3. After a failure the client is replaced, as soon as no request is pending.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Generic, TypeVar

from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.pending_ends import PendingEnds, begin_log_ends
from erasestream.topics.kafka.records import Partition

SPLIT_S = 0.1

G = TypeVar("G")


class GroupedEnds(Generic[G]):
    """Asks for the ends of some of the groups at a time.  One thread."""

    def __init__(self, admin: Admin, groups: Mapping[G, Sequence[Partition]]) -> None:
        self._admin = admin
        self._groups = groups
        self._slow: set[G] = set()
        self._pending: dict[G, PendingEnds] = {}
        self._failed: PendingEnds | None = None

    def ask(self, names: Collection[G], *, timeout_s: float) -> dict[G, dict[Partition, int]]:
        """Return the ends, as of now, of those groups that are answered in time."""
        self._take_late_answers()
        for name in self._slow.intersection(names) - self._pending.keys():
            if self._failed is None:
                self._begin(name)
        return self._ask_together([name for name in names if name not in self._slow], timeout_s)

    def _take_late_answers(self) -> None:
        for name in [name for name, request in self._pending.items() if request.is_done]:
            self._take(name)
        if self._failed is not None and not self._pending:
            self._failed.replace_client()
            self._failed = None

    def _ask_together(self, names: Sequence[G], timeout_s: float) -> dict[G, dict[Partition, int]]:
        if not names:
            return {}
        of_all = chain.from_iterable(self._groups[name] for name in names)
        request = begin_log_ends(self._admin, of_all)
        request.wait(SPLIT_S if len(names) > 1 else timeout_s)
        ends = request.ends()
        if ends is not None:
            return {name: {at: ends[at] for at in self._groups[name]} for name in names}
        self._failed = request
        self._slow.update(names)
        return self._ask_apart(names, timeout_s) if len(names) > 1 else {}

    def _ask_apart(self, names: Sequence[G], timeout_s: float) -> dict[G, dict[Partition, int]]:
        for name in names:
            self._begin(name)
        PendingEnds.wait_for_first([self._pending[name] for name in names], timeout_s)
        found: dict[G, dict[Partition, int]] = {}
        for name in names:
            self._pending[name].wait(SPLIT_S)
            if self._pending[name].is_done and (ends := self._take(name)) is not None:
                found[name] = ends
        return found

    def _begin(self, name: G) -> None:
        self._pending[name] = begin_log_ends(self._admin, self._groups[name])

    def _take(self, name: G) -> dict[Partition, int] | None:
        request = self._pending.pop(name)
        ends = request.ends()
        if ends is None:
            self._failed = request
        else:
            self._slow.discard(name)
        return ends

"""Tell for which lanes the sink's consent view is fresh enough.

After reading, the view's own mark is taken; the view must reach both it and the offset that the
router had applied when it decided: a deposed leader that does not know it yet answers with an old
end offset, before which a picture's very grant can be missing.

A lane that does not get there in time is *behind*.  It is looked at again, and not waited for
until it has caught up: it delays no other lane twice.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress

from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Partition

log: logging.Logger = logging.getLogger(__name__)

MARK_TIMEOUT_S = 1.0
CATCH_UP_S = 1.0
"""Longest attempt to catch up with the lanes that are not behind."""


class LaneFreshness:
    """Compares a consent view with the brokers, lane by lane."""

    def __init__(self, view: ConsentView) -> None:
        self._view = view
        self.behind: set[Lane] = set()
        """Lanes that did not catch up when they were looked at last."""

    def fresh(self, routed: Mapping[Lane, Mark]) -> set[Lane]:
        """Return the lanes whose decisions are applied up to now, and up to these offsets.

        A lane that the view does not have was removed, and none of its grants is in force: it is
        as fresh as it can be.
        """
        known = {lane: mark for lane, mark in routed.items() if lane in self._view.lanes}
        marks = self._view.marks(known, timeout_s=MARK_TIMEOUT_S)
        wanted = {lane: _later(marks[lane], known[lane]) for lane in marks}
        awaited = [mark for lane, mark in wanted.items() if lane not in self.behind]
        with suppress(Unavailable):
            self._view.catch_up(_joined(awaited), deadline_s=CATCH_UP_S)
        self._view.read()
        fresh = {lane for lane, mark in wanted.items() if self._has_reached(lane, mark)}
        self._note(known.keys() - fresh, fresh)
        return fresh | (routed.keys() - known.keys())

    def _has_reached(self, lane: Lane, mark: Mark) -> bool:
        applied = self._view.applied(lane)
        return all(applied[at] >= offset for at, offset in mark.items())

    def _note(self, behind: set[Lane], fresh: set[Lane]) -> None:
        for lane in behind - self.behind:
            log.warning("waiting_for_consent", extra={"topic": consent_of(lane)})
        self.behind = (self.behind | behind) - fresh


def _later(mark: Mark, routed: Mark) -> Mark:
    return {at: max(offset, routed.get(at, 0)) for at, offset in mark.items()}


def _joined(marks: list[Mark]) -> Mark:
    joined: dict[Partition, int] = {}
    for mark in marks:
        joined |= mark
    return joined

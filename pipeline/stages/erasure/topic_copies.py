"""When the last copies in topics became worthless of what was uploaded under a grant.  Pure.

Uploads, results and retained images are sealed for the epoch of their upload.  So all copies under
a grant are worthless once the keys of the epoch in which its end was recorded, and of all before
it, are unrecoverable: destroyed together with the master keys that wrapped them.  The key service
writes that to `ledger`, where no lane writes.

Known by what was seen, and by nothing else: every key must be there that can have existed, back to
a whole promise before that epoch or to the first key of its purpose.  Of a lane that accepts
unsealed uploads nothing is known.
"""

import math
from collections.abc import Collection
from datetime import datetime, timedelta

from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import KeyDestroyed, KeyState
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.purposes import KEPT, results_of, uploads_for
from erasestream.topics.catalog.topic_names import LEDGER
from erasestream.topics.kafka.records import Record

PROMISES_AWAITED = 2
"""Keys are destroyed within the promise.  An epoch for which the key service made no key, because
it was unavailable for hours, leaves a gap that never closes; no receipt waits for that."""


class TopicCopies:
    """The ends of keys, as `ledger` has them; `sealed` are the lanes that accept nothing else."""

    def __init__(self, times: EpochTimes, sealed: Collection[Lane]) -> None:
        self._times = times
        self._sealed = sealed
        self._ends: dict[str, dict[int, datetime]] = {}

    def apply(self, record: Record) -> None:
        """Apply a record of `ledger`."""
        try:
            if record.at.topic != LEDGER or type_of(record.headers) is not KeyDestroyed:
                return
            entry = from_wire(KeyDestroyed, record.headers, record.value)
        except InvalidEvent:
            return
        if entry.state is KeyState.UNRECOVERABLE:
            self._ends.setdefault(entry.purpose, {}).setdefault(entry.epoch, entry.time)

    def worthless(self, lane: Lane, recorded: datetime) -> datetime | None:
        """Return when the last copy became worthless of a grant that ended then; None: unknown."""
        if lane not in self._sealed:
            return None
        last = self._times.number(recorded + timedelta(seconds=self._times.clock_error_s))
        first = last - math.ceil(self._times.promise_s / self._times.length_s)
        found = list[datetime]()
        for purpose in (KEPT, uploads_for(lane), results_of(lane)):
            ends = self._ends.get(purpose, {})
            needed = range(max(first, min(ends, default=last)), last + 1)
            if not needed or not ends.keys() >= set(needed):
                return None
            found += [ends[epoch] for epoch in needed]
        return max(found)

    def is_awaited(self, lane: Lane, recorded: datetime, now: datetime) -> bool:
        """Return whether what is unknown may soon be known."""
        wait = timedelta(seconds=PROMISES_AWAITED * self._times.promise_s)
        return lane in self._sealed and now < recorded + wait

"""Write that erased grants are unrecoverable, once their master keys were seen destroyed.

The rotator notes each destroyed version of the master key below `masters/` in the vault, where only
it can write.  It notes a version after all before it.  So the version under which the eraser found
a key vouches for those under which the key was wrapped earlier, and which old copies may have.
"""

import hashlib
import time
from collections.abc import Callable

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.erasure.ended_grants import EndedGrant
from erasestream.pipeline.stages.erasure.grant_entries import GrantEntries
from erasestream.schemas.clocks import Clock, Deadline, WallClock, utc_now
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import GrantErased, KeyState
from erasestream.schemas.ids import derived_uuid
from erasestream.topics.catalog.topic_names import erasures_of
from erasestream.topics.consent.unfinished_erasures import UnfinishedErasures
from erasestream.topics.kafka.records import Partition

LOOK_S = 60.0
MOST = 1_000
"""Grants that are written in one turn: a version is the last one of a week's erasures."""


class UnrecoverableGrants:
    """Writes the entries; `entries` are for nothing else."""

    def __init__(
        self,
        *,
        destroyed: Callable[[], frozenset[str]],
        entries: GrantEntries,
        outage: OutageLog,
        clock: Clock = time.monotonic,
        now: WallClock = utc_now,
    ) -> None:
        """`destroyed` returns the versions that are noted, or raises `Unavailable`."""
        self._destroyed = destroyed
        self._entries = entries
        self._outage = outage
        self._clock = clock
        self._now = now
        self._look = Deadline(0, clock)
        self._unwritten: dict[EndedGrant, Wire] = {}

    def run_once(self, unfinished: UnfinishedErasures, shown: set[Partition]) -> None:
        """Write what is new.  `shown` are the partitions that were read up to their ends."""
        if self._look.has_passed:
            self._find(unfinished, shown)
        for each in self._entries.write(erasures_of, self._unwritten, shown):
            del self._unwritten[each]
            unfinished.forget(each.grant)

    def _find(self, unfinished: UnfinishedErasures, shown: set[Partition]) -> None:
        self._look = Deadline(LOOK_S, self._clock)
        left = [each for each in unfinished.recoverable() if each.at in shown]
        if not left:
            return
        try:
            destroyed = self._destroyed()
        except Unavailable as error:
            self._outage.report(error)
            return
        found = [each for each in left if destroyed.issuperset(each.keys)]
        if len(found) > MOST:
            self._look = Deadline(0, self._clock)
        for entry in (each.entry for each in found[:MOST]):
            ended = EndedGrant(entry.lane, entry.account, entry.grant)
            if ended not in self._unwritten:
                self._unwritten[ended] = self._wire(entry)

    def _wire(self, entry: GrantErased) -> Wire:
        digest = hashlib.sha256(f"unrecoverable\0{entry.grant}".encode()).digest()
        changed = {
            "id": derived_uuid(digest),
            "time": self._now(),
            "state": KeyState.UNRECOVERABLE,
        }
        return to_wire(entry.model_copy(update=changed), source="/eraser")

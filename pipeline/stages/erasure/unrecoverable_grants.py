"""Write that erased grants are unrecoverable, once their master keys were seen destroyed.

The rotator notes each destroyed version of the master key below `masters/` in the vault, where only
it can write.  It notes a version after all before it.  So the version under which the eraser found
a key vouches for those under which the key was wrapped earlier, and which old copies may have.

The copies in topics have to be worthless, too: with a key of an epoch they open a picture, also the
one in an old copy of the bucket.  When the last one became so is in the entry (`topic_copies.py`).
"""

import hashlib
import time
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.erasure.ended_grants import EndedGrant
from erasestream.pipeline.stages.erasure.grant_entries import GrantEntries
from erasestream.pipeline.stages.erasure.topic_copies import TopicCopies
from erasestream.schemas.clocks import Clock, Deadline, WallClock, utc_now
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import GrantErased, KeyState
from erasestream.schemas.ids import derived_uuid
from erasestream.topics.catalog.topic_names import erasures_of
from erasestream.topics.consent.unfinished_erasures import DeletedGrant, UnfinishedErasures
from erasestream.topics.kafka.records import Partition

LOOK_S = 60.0
AGAIN_S = 1.0
"""Until the next look if `ledger` could not be read to its end."""
MOST = 1_000
"""Grants that are written in one turn: a version is the last one of a week's erasures."""


class _Found(NamedTuple):
    entry: GrantErased
    worthless: datetime | None


class UnrecoverableGrants:
    """Writes the entries; `entries` are for nothing else."""

    def __init__(
        self,
        *,
        destroyed: Callable[[], frozenset[str]],
        copies: TopicCopies,
        read_ledger: Callable[[], bool],
        entries: GrantEntries,
        outage: OutageLog,
        clock: Clock = time.monotonic,
        now: WallClock = utc_now,
    ) -> None:
        """`destroyed` returns the versions that are noted, or raises `Unavailable`.

        `read_ledger` applies to `copies` what `ledger` has, and returns whether it has all; or
        raises `Unavailable`.
        """
        self._destroyed = destroyed
        self._copies = copies
        self._read_ledger = read_ledger
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
            deleted = [each for each in left if destroyed.issuperset(each.keys)]
            if deleted and not self._read_ledger():
                self._look = Deadline(AGAIN_S, self._clock)
                return
        except Unavailable as error:
            self._outage.report(error)
            return
        dead = (each for each in map(self._worthless, deleted) if each is not None)
        found = list(islice(dead, MOST + 1))
        if len(found) > MOST:
            self._look = Deadline(0, self._clock)
        for each in found[:MOST]:
            ended = EndedGrant(each.entry.lane, each.entry.account, each.entry.grant)
            if ended not in self._unwritten:
                self._unwritten[ended] = self._wire(each)

    def _worthless(self, grant: DeletedGrant) -> _Found | None:
        """Return the grant's entry, and when its copies became worthless; None: not yet."""
        entry = grant.entry
        worthless = self._copies.worthless(entry.lane, entry.recorded)
        is_awaited = self._copies.is_awaited(entry.lane, entry.recorded, self._now())
        return None if worthless is None and is_awaited else _Found(entry, worthless)

    def _wire(self, found: _Found) -> Wire:
        entry = found.entry
        digest = hashlib.sha256(f"unrecoverable\0{entry.grant}".encode()).digest()
        changed = {
            "id": derived_uuid(digest),
            "time": self._now(),
            "state": KeyState.UNRECOVERABLE,
            "topics_worthless": found.worthless,
        }
        return to_wire(entry.model_copy(update=changed), source="/eraser")

"""Erase grants: a marker in the vault, an entry in the lane's ledger, then one in `erasures.L`.

Each step is taken only after the one before was acknowledged, and only once, however long the next
one fails.  A step that fails is retried by a later call of `erase`.
"""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.erasure.ended_grants import Cause, EndedGrant
from erasestream.pipeline.stages.erasure.grant_entries import GrantEntries
from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.ledger import ErasureEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_event_id
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.ledger_view import GrantHistory
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

MAX_PARALLEL_MARKS = 8
"""Markers that are created at the same time."""


class GrantEraser:
    """Erases grants; `mark` creates a grant's marker in the vault.

    `partitions`: the partition counts of the lanes' ledgers and of `erasures.L`.
    """

    def __init__(
        self,
        *,
        writes: AcknowledgedWriter,
        partitions: Mapping[str, int],
        mark: Callable[[GrantId], None],
        stopping: threading.Event,
        outage: OutageLog,
        now: WallClock = utc_now,
    ) -> None:
        self._entries = GrantEntries(writes=writes, partitions=partitions, outage=outage)
        self._partitions = partitions
        self._mark = mark
        self._stopping = stopping
        self._outage = outage
        self._now = now
        self._pool = ThreadPoolExecutor(MAX_PARALLEL_MARKS, thread_name_prefix="eraser")
        self._is_vault_unavailable = False
        self._marked: dict[EndedGrant, Wire] = {}
        """Grants that are marked and not in `erasures.L` yet, with their entries."""
        self._in_ledger: set[EndedGrant] = set()
        """Those of `_marked` whose entry is in the ledger."""
        self.count: int = 0
        """Number of grants that were erased."""

    def erase(
        self, ended: Mapping[EndedGrant, Cause], *, history: GrantHistory, shown: set[Partition]
    ) -> set[EndedGrant]:
        """Erase these grants; return those that are erased now, and note them in `history`.

        `shown` are the partitions whose leaders answer.
        """
        self._mark_all({each: why for each, why in ended.items() if each not in self._marked})
        marked = [each for each in ended if each in self._marked]
        unrecorded = [each for each in marked if each not in self._in_ledger]
        self._in_ledger.update(self._write(ledger_of, unrecorded, shown))
        recorded = [each for each in marked if each in self._in_ledger]
        confirmed = self._write(erasures_of, recorded, shown)
        for each in confirmed:
            del self._marked[each]
            history.confirm(each.grant)
        self._in_ledger.difference_update(confirmed)
        self.count += len(confirmed)
        return set(confirmed)

    def places(self, lane: Lane, account: AccountId) -> tuple[Partition, Partition]:
        """Return the partitions of the account's entries: in the ledger, and in `erasures.L`."""
        topics = (ledger_of(lane), erasures_of(lane))
        entries, confirmations = (place(each, account, self._partitions).at for each in topics)
        return entries, confirmations

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def _mark_all(self, ended: Mapping[EndedGrant, Cause]) -> None:
        self._is_vault_unavailable = False
        marked = self._pool.map(self._is_marked, ended)
        for (each, why), is_marked in zip(ended.items(), marked, strict=True):
            if is_marked:
                self._marked[each] = self._entry(each, why)

    def _is_marked(self, ended: EndedGrant) -> bool:
        if self._is_vault_unavailable or self._stopping.is_set():
            return False  # an unavailable vault is not asked a thousand times
        try:
            self._mark(ended.grant)
        except Unavailable as error:
            self._is_vault_unavailable = True
            self._outage.report(error)
            return False
        return True

    def _write(
        self, topic_of: Callable[[Lane], str], grants: list[EndedGrant], shown: set[Partition]
    ) -> list[EndedGrant]:
        return self._entries.write(topic_of, {each: self._marked[each] for each in grants}, shown)

    def _entry(self, ended: EndedGrant, why: Cause) -> Wire:
        now = self._now()
        entry = ErasureEntry(
            id=new_event_id(now, os.urandom(10)),
            time=now,
            lane=ended.lane,
            account=ended.account,
            grant=ended.grant,
            decision=why.decision,
            recorded=utc(why.appended_ms),
        )
        return to_wire(entry, source="/eraser")

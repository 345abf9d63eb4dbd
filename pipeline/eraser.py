"""The eraser's first step: a revocation becomes a marker in the vault.

For every decision, in this order:

1. Catch up with the ledger: every grant that was ever made stands there before it counts.
2. Create the marker `erased/<grant>` of each grant that the decision leaves without force;
   once it stands, no key of that grant is used any more.
3. Write the erasure to the ledger, for the record, and then to `erasures`, where nobody else
   can write.  The revocation is *confirmed* with that.
4. Commit the offset.  A crash before that repeats the steps, which changes nothing.

The decision itself is taken from `consent.L`, whose topic proves the lane; the ledger, which
all lanes write, only tells which grants there were: names of grants can not be forged
(`ids.grant_id`), and what it says of erasures is not believed.

Beside that it writes the heartbeats of the consent topics (`topics/heartbeat.py`).
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from erasestream.pipeline.patience import Patience
from erasestream.schemas.cloudevents import from_wire, to_wire
from erasestream.schemas.consent import HEARTBEAT_KEY, ConsentDecision, Decision
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events import utc
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.schemas.ledger import ErasureEntry
from erasestream.topics.catalog import ERASURES, LEDGER, lane_of
from erasestream.topics.ledger_view import Grants, LedgerView, ledger_key
from erasestream.topics.partitioner import partition_of
from erasestream.topics.record import Partition, Record
from erasestream.topics.single_writes import SingleWrites
from erasestream.topics.work import WorkQueue

log = logging.getLogger(__name__)

BATCH = 100
CATCH_UP_S = 5.0


class EraserStage:
    """Marks what is revoked; `mark` creates a grant's marker in the vault.

    `partitions`: how many the ledger and `erasures` have.
    """

    def __init__(
        self,
        *,
        queue: WorkQueue,
        ledger: LedgerView,
        partitions: Mapping[str, int],
        writes: SingleWrites,
        mark: Callable[[GrantId], None],
        beat: Callable[[], None],
        beat_every_s: float,
        stopping: threading.Event,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._partitions = partitions
        self._writes = writes
        self._mark = mark
        self._beat = beat
        self._beat_every_s = beat_every_s
        self._beat_due_s = clock()
        self._now = now
        self._clock = clock
        self._patience = Patience(stopping)
        self._marked: set[GrantId] = set()
        self.count = 0
        """How many grants were marked."""

    def turn(self) -> None:
        """One batch of decisions.  Raises `Unavailable` only if the stage shall end."""
        if self._clock() >= self._beat_due_s:
            self._patience.call(self._beat)
            self._beat_due_s = self._clock() + self._beat_every_s
        records = self._queue.read(timeout_s=0.2, most=BATCH)
        if not records:
            return
        self._patience.call(lambda: self._ledger.catch_up(deadline_s=CATCH_UP_S))
        for record in records:
            self._decided(record)
        self._queue.done(records)

    def is_ready(self) -> bool:
        """Whether the group has answered."""
        return self._queue.has_joined

    def close(self) -> None:
        """Leave the group."""
        self._queue.close()
        self._ledger.close()

    def _decided(self, record: Record) -> None:
        lane, account = lane_of(record.at.topic), _account(record)
        if account is None:
            return
        for grant in _ended(record, self._ledger.grants, lane, account):
            if grant in self._marked:
                continue
            self._patience.call(lambda grant=grant: self._mark(grant))  # type: ignore[misc]
            self._patience.call(
                lambda grant=grant: self._note(lane, account, grant)  # type: ignore[misc]
            )
            self._marked.add(grant)
            self.count += 1

    def _note(self, lane: Lane, account: AccountId, grant: GrantId) -> None:
        now = self._now()
        entry = ErasureEntry(
            id=new_upload_id(int(now.timestamp() * 1000), os.urandom(10)),
            time=now,
            lane=lane,
            account=account,
            grant=grant,
        )
        key = ledger_key(lane, account)
        for topic in (LEDGER, ERASURES):
            at = Partition(topic, partition_of(key, self._partitions[topic]))
            self._writes.write(at, key, to_wire(entry, source="/eraser"))


def _account(record: Record) -> AccountId | None:
    """The account that a record decides for, readable or not; None for a heartbeat."""
    key = record.key or b""
    return None if key == HEARTBEAT_KEY else AccountId(key.decode(errors="replace"))


def _ended(record: Record, grants: Grants, lane: Lane, account: AccountId) -> list[GrantId]:
    """The grants that a record ends; one that can not be read is a revocation, in doubt of all."""
    try:
        decision = from_wire(ConsentDecision, record.headers, record.value)
    except InvalidEvent:
        return grants.ended_by_revocation(lane, account, None)
    if decision.decision is Decision.GRANTED and not decision.is_void(utc(record.appended_ms)):
        return grants.ended_by_grant(lane, account, decision.id)
    return grants.ended_by_revocation(lane, account, decision.id)

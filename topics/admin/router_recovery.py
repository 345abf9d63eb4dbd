"""Recovery of the router's offsets and replay marks in a lane, after they were lost or damaged.

A router quarantines a partition that it cannot go on with, and its committed metadata say so
(`topics/kafka/partition_broken.py`).  Routers of all other partitions go on meanwhile, and so do
those of this lane; they read a partition again once it is repaired.

Rules:

* Only broken partitions are changed: those without an offset, without a readable mark, or with
  the flag of a defect.  Whether one is broken is decided under a lock (`offset_lock.py`), so that
  no commit of a running router is overwritten.
* Where offset or mark is lost, the topics still prove what was routed last
  (`routing_evidence.py`).  The mark is that upload.  The cut-outs are read again from their log
  start; results that were routed before are dropped as replays.  Records before the log start may
  have been deleted unread, so the committed offset makes the router assume a loss: results of older
  uploads may be missing, and are counted.
* A record that cannot be decided is passed over: that one and no other.
* Results that are missing are given up: of all uploads until now they may be missing, and are
  counted.
* A partition of which nothing is proved is not changed.
* Every repair is recorded in the shared ledger, which no lane can write, before it takes effect.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack

from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.events.ledger import Repair
from erasestream.schemas.ids import Lane, new_event_id
from erasestream.topics.admin.routing_evidence import RoutingEvidence, is_broken
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import (
    LEDGER,
    cutouts_of,
    uploads_of,
)
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.group_offsets import Committed, GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partition_broken import Defect, Flagged
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.offset_lock import OffsetLocks

WRITE_TIMEOUT_S = 20.0


class RouterRecovery:
    """Recovers lanes, with the administrator's connection."""

    def __init__(
        self,
        *,
        connection: Connection,
        catalog: Catalog,
        actor: str,
        now: WallClock = utc_now,
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._actor = actor
        self._now = now
        self._groups = GroupOffsets(connection)
        with ExitStack() as opened:
            admin = opened.enter_context(Admin(connection))
            self._offsets = OffsetQueries(admin)
            self._evidence = RoutingEvidence(admin, now=now)
            self._ledger = AcknowledgedWriter(connection=connection, timeout_s=WRITE_TIMEOUT_S)
            opened.callback(self._ledger.close)
            self._locks = OffsetLocks(connection=connection, group=ROUTER, name="repair")
            opened.callback(self._locks.close)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()

    def recover(self, lane: Lane) -> Iterator[str]:
        """Repair every broken partition; yield one line each, as in the ledger.

        Raises `Refused` at the end if the topics do not prove what was routed of a partition.
        """
        refused: Refused | None = None
        for number in range(self._catalog.lane(lane).partitions):
            try:
                yield self._recover(lane, Partition(cutouts_of(lane), number))
            except Refused as error:
                refused = refused or error
        if refused:
            raise refused

    def _recover(self, lane: Lane, at: Partition) -> str:
        found = self._committed(at)
        if not is_broken(found):
            return f"{at}: is not broken, left unchanged"
        with self._locks.lock(at, found or Committed(0)) as lock:
            if self._committed(at) != found:
                raise Unavailable(f"{at} was changed meanwhile: try again")
            start = self._offsets.log_start(at)
            repaired = self._repaired(lane, at, found, start=start)
            line = f"{at}: from {max(repaired.offset, start)} with mark {repaired.metadata}"
            lock.send(repaired)
            self._record(lane, line)
            lock.commit()
        return line

    def _committed(self, at: Partition) -> Committed | None:
        return self._groups.committed(ROUTER, [at]).get(at)

    def _repaired(
        self, lane: Lane, at: Partition, found: Committed | None, *, start: int
    ) -> Committed:
        flagged = Flagged.parse(found.metadata if found else "")
        if found is None or flagged.defect in (None, Defect.OFFSET_OUT_OF_RANGE):
            mark = self._evidence.mark(lane, at.number)
            # A deleted offset makes the router assume a loss.
            return Committed(max(0, start - 1), str(mark))
        mark = self._without_results(lane, at, ReplayMark.parse(flagged.metadata, where=str(at)))
        is_passed_over = flagged.defect is not Defect.RESULTS_MISSING
        offset = max(found.offset, start) + 1 if is_passed_over else found.offset
        return Committed(offset, str(mark))

    def _without_results(self, lane: Lane, at: Partition, mark: ReplayMark) -> ReplayMark:
        """Return the mark of a partition that results of uploads until now may be missing of."""
        topic = uploads_of(lane)
        topic_id = self._offsets.topic_ids([topic])[topic]
        if mark.topic_id != topic_id:
            mark = ReplayMark(topic_id=topic_id, offset=-1)
        return mark._replace(unread_below=self._offsets.log_end(Partition(topic, at.number)))

    def _record(self, lane: Lane, line: str) -> None:
        now = self._now()
        entry = Repair(
            id=new_event_id(now, os.urandom(10)),
            time=now,
            command="repair",
            detail=line,
            actor=self._actor,
        )
        key = str(lane).encode()
        number = partition_of(key, self._catalog[LEDGER].partitions)
        self._ledger.write(Partition(LEDGER, number), key, to_wire(entry, source="/repair"))

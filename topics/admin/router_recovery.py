"""Recovery of the router's offsets and replay marks in a lane, after they were lost or damaged.

Without its replay mark the router cannot distinguish a replay from a first delivery, and stops.
The ephemeral topic still shows what was routed last: the last committed record of each partition
names the upload that it is the result of.

Rules:

* The mark is that upload.  The cut-outs are read again from their log start; results that were
  routed before are dropped as replays.
* Records before the log start may have been deleted unread.  The committed offset therefore makes
  the router assume a loss: results of older uploads may be missing, and are counted.
* If the ephemeral topic no longer has the last routed result, nothing is changed.
* Every repair is recorded in the shared ledger, which no lane can write.  The routers must be
  stopped.
"""

import os
from contextlib import ExitStack
from datetime import UTC, datetime

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.codec.cloudevents import from_wire, to_wire, type_of
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import Refused
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.events.ledger import Repair
from erasestream.schemas.ids import Lane, new_upload_id
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import (
    LEDGER,
    cutouts_of,
    ephemeral_of,
    uploads_of,
)
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.last_record import last_committed_record
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

STEP = 64
"""Offsets per step backwards, in search of a record that is not a transaction marker."""
READ_TIMEOUT_S = 20.0


class RouterRecovery:
    """Recovers lanes, with the administrator's connection."""

    def __init__(
        self,
        *,
        connection: Connection,
        catalog: Catalog,
        actor: str,
        now: WallClock = lambda: datetime.now(UTC),
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._actor = actor
        self._now = now
        self._groups = GroupOffsets(connection)
        with ExitStack() as opened:
            admin = opened.enter_context(Admin(connection))
            self._offsets = OffsetQueries(admin)
            self._ledger = AcknowledgedWriter(connection=connection, timeout_s=READ_TIMEOUT_S)
            opened.callback(self._ledger.close)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()

    def recover(self, lane: Lane) -> list[str]:
        """Set offset and mark of every partition; return one line each, as in the ledger.

        Raises `Refused` if routers run, or if a partition's last routed result is gone; the
        partitions before that one are recovered.
        """
        lines = []
        for number in range(self._catalog.lane(lane).partitions):
            mark = self._last_routed(lane, number)
            at = Partition(cutouts_of(lane), number)
            start = self._offsets.log_start(at)
            line = f"{at}: from {start} with mark {mark}"
            self._record(lane, line)
            # A deleted offset makes the router assume a loss.
            self._groups.commit(ROUTER, at, max(0, start - 1), metadata=str(mark))
            lines.append(line)
        return lines

    def _last_routed(self, lane: Lane, number: int) -> ReplayMark:
        at = Partition(ephemeral_of(lane), number)
        start, end = self._offsets.log_start(at), self._offsets.log_end(at)
        if end == 0:
            return self._nothing_routed(lane)
        upper = end
        while upper > start:
            lower = max(start, upper - STEP)
            record = last_committed_record(
                self._connection, at, lower, upper, timeout_s=READ_TIMEOUT_S
            )
            if record is not None:
                event = Failure if type_of(record.headers) is Failure else Cutout
                position = from_wire(event, record.headers, record.value).position
                return ReplayMark(topic_id=position.topic_id, offset=position.offset)
            upper = lower
        if start == 0:
            return self._nothing_routed(lane)  # every transaction was aborted
        raise Refused(f"{at} no longer has the last routed result, so no mark can be recovered")

    def _nothing_routed(self, lane: Lane) -> ReplayMark:
        topic = uploads_of(lane)
        return ReplayMark(topic_id=self._offsets.topic_ids([topic])[topic], offset=-1)

    def _record(self, lane: Lane, line: str) -> None:
        now = self._now()
        entry = Repair(
            id=new_upload_id(int(now.timestamp() * 1000), os.urandom(10)),
            time=now,
            command="repair",
            detail=line,
            actor=self._actor,
        )
        key = str(lane).encode()
        number = partition_of(key, self._catalog[LEDGER].partitions)
        self._ledger.write(Partition(LEDGER, number), key, to_wire(entry, source="/repair"))

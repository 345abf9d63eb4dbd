"""Mend the router's place in a lane, after its committed offsets were lost or damaged.

Without its replay mark the router can not tell a replay from a first appearance, and stops.
What it routed last still stands in the ephemeral topic: the last committed record of each
partition names the upload that it is the result of.  So the mark is read from there, and the
cut-outs are read again from their start; what was routed before is dropped as a replay.  Whether
what was deleted before that start had been read nothing tells, so the router is to take it for a
loss: results of uploads that are older may be missing then, and are counted.

Where the ephemeral topic has forgotten that already, nothing tells, and nothing is mended.
Every repair stands in the ledger.  The routers must be stopped.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

from confluent_kafka import Consumer, TopicPartition

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
    MAX_RECORD_BYTES,
    cutouts_of,
    ephemeral_of,
    uploads_of,
)
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record

STEP = 64
"""Offsets to step back by, looking for the last record that is not a transaction's marker."""
READ_TIMEOUT_S = 20.0


class RouterRecovery:
    """Mends one lane after another; `connection` is the administrator's."""

    def __init__(
        self,
        *,
        connection: Connection,
        catalog: Catalog,
        actor: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._actor = actor
        self._now = now
        self._offsets = OffsetQueries(Admin(connection))
        self._groups = GroupOffsets(connection)
        self._ledger = AcknowledgedWriter(connection=connection, timeout_s=READ_TIMEOUT_S)

    def recover(self, lane: Lane) -> list[str]:
        """Set every partition's place and mark anew; a line for each, as the ledger has it.

        Raises `Refused` if routers run, or if nothing tells what was routed last; then the
        partitions before that one are mended.
        """
        lines = []
        for number in range(self._catalog.lane(lane).partitions):
            mark = self._last_routed(lane, number)
            at = Partition(cutouts_of(lane), number)
            start = self._offsets.log_start(at)
            line = f"{at}: from {start} with mark {mark}"
            self._note(lane, line)
            # An offset that is deleted already is what tells the router of a loss.
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
            record = self._last_record(at, lower, upper)
            if record is not None:
                event = Failure if type_of(record.headers) is Failure else Cutout
                position = from_wire(event, record.headers, record.value).position
                return ReplayMark(topic_id=position.topic_id, offset=position.offset)
            upper = lower
        if start == 0:
            return self._nothing_routed(lane)  # all that was ever written there was undone
        raise Refused(f"{at} has forgotten what was routed last, so nothing can be mended")

    def _nothing_routed(self, lane: Lane) -> ReplayMark:
        topic = uploads_of(lane)
        return ReplayMark(topic_id=self._offsets.topic_ids([topic])[topic], offset=-1)

    def _last_record(self, at: Partition, lower: int, upper: int) -> Record | None:
        watch = ClientErrorState()
        consumer = Consumer(
            self._connection.settings(
                watch,
                group_id=self._connection.role,
                enable_auto_commit=False,
                isolation_level="read_committed",
                auto_offset_reset="error",
                receive_message_max_bytes=2 * MAX_RECORD_BYTES,
            )
        )
        last: Record | None = None
        deadline = time.monotonic() + READ_TIMEOUT_S
        try:
            consumer.assign([TopicPartition(*at, lower)])
            while True:
                message = consumer.poll(0.1)
                if message is not None and message.error() is None:
                    record = Record.of(message)
                    if record.offset >= upper:
                        return last
                    last = record
                (place,) = consumer.position([TopicPartition(*at)])
                if place.offset >= upper:
                    return last
                if time.monotonic() > deadline:
                    raise watch.explain(f"{at} is not committed up to {upper}")
        finally:
            consumer.close()

    def _note(self, lane: Lane, line: str) -> None:
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

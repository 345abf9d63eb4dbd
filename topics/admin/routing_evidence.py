"""Evidence in the topics of which results were routed, after the router's offset was lost.

Rules, all of them:

* Every routed result left a record in the ephemeral topic, which only retention deletes.  The last
  committed record there names the upload that was routed last.
* If retention has deleted all of them, every routed upload, and its cut-out, was appended longer
  ago than the retention.  So what is younger was never routed, and if all that is left of both
  topics is younger, the mark is before the first of it.
* Anything older may have been routed: nothing is proved until it is deleted, too.
"""

from datetime import timedelta

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.codec.result_headers import parse_result_headers
from erasestream.schemas.errors import InvalidEvent, InvariantBroken, Refused
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.consumer.last_record import last_committed_record
from erasestream.topics.kafka.group_offsets import Committed
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partition_broken import Flagged
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.topic_admin import topic_settings

STEP = 64
"""Offsets per step backwards, in search of a record that is not a transaction marker."""
READ_TIMEOUT_S = 20.0


def is_broken(found: Committed | None) -> bool:
    """Return whether the router cannot go on from what is committed for a partition."""
    if found is None or Flagged.parse(found.metadata).defect is not None:
        return True
    try:
        ReplayMark.parse(found.metadata, where="")
    except InvariantBroken:
        return True
    return False


class RoutingEvidence:
    """Finds replay marks in the topics of a lane."""

    def __init__(self, admin: Admin, *, now: WallClock) -> None:
        self._admin = admin
        self._offsets = OffsetQueries(admin)
        self._now = now

    def mark(self, lane: Lane, number: int) -> ReplayMark:
        """Return the mark of a partition: everything before it was routed, and nothing behind it.

        Raises `Refused` if that cannot be proved.
        """
        at = Partition(ephemeral_of(lane), number)
        start, upper = self._offsets.log_start(at), self._offsets.log_end(at)
        while upper > start:
            lower = max(start, upper - STEP)
            if record := self._last_record(at, lower, upper):
                position = parse_result_headers(record.headers).position
                return ReplayMark(topic_id=position.topic_id, offset=position.offset)
            upper = lower
        if start == 0:
            return ReplayMark(topic_id=self._topic_id(lane), offset=-1)  # nothing was committed
        return self._before_what_is_left(lane, number)

    def _before_what_is_left(self, lane: Lane, number: int) -> ReplayMark:
        topic_id = self._topic_id(lane)
        uploads = Partition(uploads_of(lane), number)
        horizon_ms = self._horizon_ms(lane)
        first = self._offsets.log_start(uploads)
        cutout = self._first_cutout(lane, number)
        is_old = self._offsets.first_after(uploads, horizon_ms) > first
        if is_old or (cutout and cutout.appended_ms <= horizon_ms):
            raise Refused(
                f"{Partition(ephemeral_of(lane), number)} no longer has the last routed result, "
                "and what is left of uploads and cut-outs is old enough to have been routed: "
                "repair again once it has expired"
            )
        position = _position(cutout)
        if position is None:
            return ReplayMark(topic_id=topic_id, offset=first - 1)
        if position.topic_id != topic_id:
            return ReplayMark(topic_id=position.topic_id, offset=position.offset - 1)
        return ReplayMark(topic_id=topic_id, offset=min(first, position.offset) - 1)

    def _horizon_ms(self, lane: Lane) -> int:
        """Return the time after which nothing was routed whose result is deleted by now."""
        topic = ephemeral_of(lane)
        (settings,) = topic_settings(self._admin, [topic])
        retention = timedelta(milliseconds=int(settings["retention.ms"].value or -1))
        if retention < timedelta(0):
            raise Refused(f"{topic} has no retention, so its results are still there: provision it")
        return round((self._now() + MAX_CLOCK_SKEW - retention).timestamp() * 1000)

    def _first_cutout(self, lane: Lane, number: int) -> Record | None:
        at = Partition(cutouts_of(lane), number)
        start = self._offsets.log_start(at)
        if self._offsets.log_end(at) == start:
            return None
        return self._last_record(at, start, start + 1)

    def _last_record(self, at: Partition, lower: int, upper: int) -> Record | None:
        return last_committed_record(
            self._admin.connection, at, lower, upper, timeout_s=READ_TIMEOUT_S
        )

    def _topic_id(self, lane: Lane) -> str:
        topic = uploads_of(lane)
        return self._offsets.topic_ids([topic])[topic]


def _position(cutout: Record | None) -> Position | None:
    try:
        return parse_result_headers(cutout.headers).position if cutout else None
    except InvalidEvent:
        return None  # the router will not be able to decide it either

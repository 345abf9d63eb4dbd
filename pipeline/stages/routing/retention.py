"""Build the records of a retained upload: its original and its cut-out, for the encryption sink.

Rules, all of them:

1. The original is read again from the cut-out's position in the uploads topic.
2. If it was deleted, cannot be parsed, or is another upload's, nothing is retained.
3. Nothing is retained of an upload that asks never to be.  It is asked itself: a worker of an
   earlier release does not pass the wish on.
4. Nothing is retained that the sink could not open, or that is sealed in part: photo and cut-out
   are both sealed, and the cut-out has the capsule with their keys; or neither is, and it has none.
5. While it is unavailable nothing is decided: the error reaches the loop, which retries.
"""

import logging
from enum import StrEnum

from erasestream.pipeline.stages.routing import routing_rule
from erasestream.pipeline.stages.routing.ports import FreshConsent, RecordSource
from erasestream.pipeline.stages.routing.record_builder import retained_record
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidInput
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Upload
from erasestream.schemas.ids import GrantId, Lane
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.records import Outgoing, Partition

log: logging.Logger = logging.getLogger(__name__)


class Missing(StrEnum):
    """Why nothing of an upload is retained; also the name of a log line and of a count."""

    ORIGINAL = "original_gone"
    KEYS = "capsule_missing"
    LEAVE = "never_retained"


class Retention:
    """Reads originals, and builds records by the decisions that the view has applied."""

    def __init__(self, *, view: FreshConsent, originals: RecordSource, now: WallClock) -> None:
        self._view = view
        self._originals = originals
        self._now = now

    def records(self, lane: Lane, cutout: Cutout, grant: GrantId) -> list[Outgoing] | Missing:
        """Return two records, or what is missing for them.  Raises `Unavailable`."""
        original = self._original(lane, cutout)
        if original is None:
            return _log(Missing.ORIGINAL, lane, cutout.position)
        if not routing_rule.is_retainable(original):
            return _log(Missing.LEAVE, lane, cutout.position)
        if not routing_rule.is_sealed_alike(original, cutout):
            return _log(Missing.KEYS, lane, cutout.position)
        mark = self._view.mark_of(lane, cutout.account)
        return [
            retained_record(lane, cutout, image, grant=grant, mark=mark, now=self._now())
            for image in (original, cutout)
        ]

    def _original(self, lane: Lane, cutout: Cutout) -> Upload | None:
        at = Partition(uploads_of(lane), cutout.position.partition)
        record = self._originals.read(at, cutout.position.offset)
        if record is None:
            return None
        try:
            upload = from_wire(Upload, record.headers, record.value)
        except InvalidInput:
            return None
        return upload if routing_rule.is_original(upload, cutout) else None


def _log(missing: Missing, lane: Lane, at: Position) -> Missing:
    fields = {"topic": uploads_of(lane), "partition": at.partition, "offset": at.offset}
    log.warning(missing, extra=fields)
    return missing

"""The replay marks of the assigned partitions, and the offsets that they depend on.

`deduplication.py` has the rules; this module asks the brokers what those need.
"""

from collections.abc import Mapping

from erasestream.pipeline.stages.routing import deduplication
from erasestream.pipeline.stages.routing.deduplication import Classification, ResultsMissing
from erasestream.pipeline.stages.routing.ports import BrokerQueries
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import ephemeral_of, lane_of, uploads_of
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset

MAX_CLOCK_SKEW_MS = round(MAX_CLOCK_SKEW.total_seconds() * 1000)
"""How far the clocks of two brokers may be apart."""


class ReplayMarks:
    """One mark for each assigned partition, with the decisions since the last commit."""

    def __init__(self, offsets: BrokerQueries) -> None:
        self._offsets = offsets
        self._marks: dict[Partition, ReplayMark] = {}
        self._after_loss: set[Partition] = set()
        """Partitions of which nothing was read yet since unread records were deleted."""

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """Take the marks that were committed with the start offsets."""
        self._marks = {at: _parsed(at, start) for at, start in starts.items()}
        self._after_loss = {at for at, start in starts.items() if start.after_loss}

    def __getitem__(self, at: Partition) -> ReplayMark:
        return self._marks[at]

    def initial_offset(self, at: Partition) -> StartOffset | None:
        """Return the start of a partition without a committed offset; None if it is unprovable.

        Every result that was ever routed left a record in the ephemeral topic.  If that has
        never held one, nothing was routed: the partition is new, or no router got to it yet.
        """
        lane = lane_of(at.topic)
        if self._offsets.log_end(Partition(ephemeral_of(lane), at.number)) > 0:
            return None
        mark = ReplayMark(topic_id=self._topic_id(lane), offset=-1)
        return StartOffset(self._offsets.log_start(at), str(mark))

    def advance(self, at: Partition, classification: Classification) -> None:
        """Move the mark of a partition behind a result that was classified and decided."""
        self._marks[at] = classification.mark
        self._after_loss.discard(at)

    def classify(self, lane: Lane, record: Record, position: Position) -> Classification:
        """Classify the result in a record of a lane by the mark of its partition.

        Raises `PartitionBroken`, `Unavailable`.
        """
        at = record.at
        mark = self._marks[at]
        if at in self._after_loss:
            mark = deduplication.mark_after_loss(
                mark,
                current_topic_id=self._topic_id(lane),
                first_younger=self._offsets.first_after(
                    Partition(uploads_of(lane), at.number), record.appended_ms + MAX_CLOCK_SKEW_MS
                ),
            )
        try:
            return deduplication.classify(
                mark,
                position,
                current_topic_id=lambda: self._topic_id(lane),
                log_start=lambda: self._offsets.log_start(Partition(uploads_of(lane), at.number)),
            )
        except ResultsMissing as error:
            raise PartitionBroken(
                at, Defect.RESULTS_MISSING, error.detail, offset=record.offset
            ) from error

    def _topic_id(self, lane: Lane) -> str:
        topic = uploads_of(lane)
        return self._offsets.topic_ids([topic])[topic]


def _parsed(at: Partition, start: StartOffset) -> ReplayMark:
    try:
        return ReplayMark.parse(start.metadata, where=str(at))
    except InvariantBroken as error:
        raise PartitionBroken(at, Defect.UNREADABLE_MARK, error.detail) from error

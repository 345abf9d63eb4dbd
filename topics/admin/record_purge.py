"""Early purge: delete processed records before they expire.

The stages' committed offsets determine what is processed: the router's offset for cut-outs, the
replay mark in its metadata for uploads, and the sink's offset for retained records, which are
stored or dropped.  DeleteRecords hides the records below at once; Kafka frees their bytes when the
segment rolls.

The role may delete records and read offsets, but not read records.  Stopping it at any point is
safe: only committed offsets determine what it deletes, never its memory.

A partition that does not have a committed offset, or whose leader does not answer, is left to the
next round; all others are purged.
"""

from collections.abc import Iterable, Mapping

from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ROUTER, SINK
from erasestream.topics.catalog.topic_names import RETAINED, cutouts_of, lane_of, uploads_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.group_offsets import Committed, GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partition_broken import QuarantineListener
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.topic_admin import Deletion, delete_records


def purgeable_offsets(
    *,
    routed: Mapping[Partition, Committed],
    stored: Mapping[Partition, Committed],
    topic_ids: Mapping[str, str],
) -> dict[Partition, int]:
    """Return per partition the offset below which every record is processed.  Pure.

    `routed` are offsets of partitions of cut-outs, `stored` of partitions of retained, and
    `topic_ids` the current ids of the topics of uploads.  A mark with another topic id does not
    apply to the current uploads; with an unreadable mark neither uploads nor cut-outs are deleted.
    """
    result: dict[Partition, int] = {}
    for cutouts, committed in routed.items():
        uploads = Partition(uploads_of(lane_of(cutouts.topic)), cutouts.number)
        try:
            mark = ReplayMark.parse(committed.metadata, where=str(cutouts))
        except InvariantBroken:
            continue
        result[cutouts] = committed.offset
        if mark.topic_id == topic_ids.get(uploads.topic):
            result[uploads] = mark.offset + 1
    result |= {partition: committed.offset for partition, committed in stored.items()}
    return {partition: offset for partition, offset in result.items() if offset > 0}


class RecordPurger:
    """Deletes processed records, as the role purger; `listener` takes reports of the others."""

    def __init__(
        self, *, connection: Connection, catalog: Catalog, listener: QuarantineListener
    ) -> None:
        self._listener = listener
        self._broken: set[Partition] = set()
        self._admin = Admin(connection)
        self._queries = OffsetQueries(self._admin)
        self._groups = GroupOffsets(connection)
        self._uploads = [uploads_of(lane) for lane in catalog.lane_names]
        self._cutouts = [cutouts_of(lane) for lane in catalog.lane_names]
        self._deleted: dict[Partition, int] = {}

    def close(self) -> None:
        """Disconnect."""
        self._admin.close()

    def purge_once(self) -> int:
        """Delete processed records, and return in how many partitions.

        Raises `Refused`, and `Unavailable` once all reachable partitions are purged.
        """
        counts = self._admin.partition_counts()  # now: partitions are added while this runs
        found = purgeable_offsets(
            routed=self._groups.committed(ROUTER, _partitions(counts, self._cutouts)),
            stored=self._groups.committed(SINK, _partitions(counts, [RETAINED])),
            topic_ids=self._queries.topic_ids(self._uploads),
        )
        # The memory of earlier deletions only saves requests.
        new = {at: offset for at, offset in found.items() if offset != self._deleted.get(at)}
        deletion = delete_records(self._admin, new) if new else Deletion([], [], [])
        self._deleted |= {at: new[at] for at in deletion.done}
        self._report(deletion)
        if deletion.unavailable:
            raise deletion.unavailable[0]
        return len(deletion.done)

    def _report(self, deletion: Deletion) -> None:
        broken = {each.at: each for each in deletion.broken}
        for at in self._broken.difference(broken):
            self._listener.released(at)
        for each in broken.values():
            self._listener.quarantined(each)
        self._broken = set(broken)


def _partitions(counts: Mapping[str, int], topics: Iterable[str]) -> list[Partition]:
    return [Partition(topic, number) for topic in topics for number in range(counts.get(topic, 0))]

"""Delete records that nothing needs any more, before their time is up.

How far everything is done stands in the offsets that the stages commit: the router's offset
says which cut-outs are routed, the replay mark beside it which uploads are, and the sink's
offset which retained records are stored or dropped.  Up to there DeleteRecords hides records
at once; Kafka frees their bytes when the segment has rolled.

The role may delete and may look at offsets; it can not read a record.  Killed anywhere it
does no harm: what it deletes is decided by what was committed, never by what it remembers.
"""

from collections.abc import Mapping

from confluent_kafka import TopicPartition

from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ROUTER, SINK
from erasestream.topics.catalog.topic_names import RETAINED, cutouts_of, lane_of, uploads_of
from erasestream.topics.kafka.admin import REQUEST_TIMEOUT_S, Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.group_offsets import Committed, GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition


def purgeable_offsets(
    *,
    routed: Mapping[Partition, Committed],
    stored: Mapping[Partition, Committed],
    topic_ids: Mapping[str, str],
) -> dict[Partition, int]:
    """Per partition the offset below which nothing is needed any more.  Pure.

    `routed`: of the partitions of cut-outs; `stored`: of the partitions of retained;
    `topic_ids`: of the topics of uploads as they are now.  A mark of uploads that were made
    anew since says nothing about those that are there now; one that can not be read says
    nothing at all.
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
    """Looks and deletes, as the role purger."""

    def __init__(self, *, connection: Connection, catalog: Catalog) -> None:
        self._admin = Admin(connection)
        self._queries = OffsetQueries(self._admin)
        self._groups = GroupOffsets(connection)
        self._uploads = [uploads_of(lane) for lane in catalog.lane_names]
        self._cutouts = [
            Partition(cutouts_of(spec.name), number)
            for spec in catalog.lanes
            for number in range(spec.partitions)
        ]
        self._retained = [
            Partition(RETAINED, number) for number in range(catalog[RETAINED].partitions)
        ]
        self._deleted: dict[Partition, int] = {}

    def purge_once(self) -> int:
        """Delete what is needless now; how many partitions had something to delete.

        Raises `Unavailable` or `Refused`.
        """
        found = purgeable_offsets(
            routed=self._groups.committed(ROUTER, self._cutouts),
            stored=self._groups.committed(SINK, self._retained),
            topic_ids=self._queries.topic_ids(self._uploads),
        )
        # What was deleted before is remembered only to ask for less.
        new = {at: offset for at, offset in found.items() if offset != self._deleted.get(at)}
        if not new:
            return 0
        asked = [TopicPartition(*at, offset) for at, offset in new.items()]
        with self._admin.use() as client:
            futures = client.delete_records(asked, request_timeout=REQUEST_TIMEOUT_S)
            for tp, future in futures.items():
                at = Partition(tp.topic, tp.partition)
                self._admin.ask(f"deleting records of {at}", future)
                self._deleted[at] = new[at]
        return len(new)

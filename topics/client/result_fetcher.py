"""Read a result of a lane again, by its partition and offset.

For a service that remembers where results are and not the results themselves.  A result can be read
until it is deleted, or its key is dead.
"""

from typing import Self

from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.topics.catalog.acl import group_prefix
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import ephemeral_of
from erasestream.topics.client.expired import Expired
from erasestream.topics.client.result_opening import ResultOpener
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.records import Partition

MAX_WAIT_S = 10.0


class ResultFetcher:
    """Reads results as the role `<lane>.consumer`.  One thread."""

    def __init__(self, cluster: Cluster, lane: Lane, *, now: WallClock = utc_now) -> None:
        self._topic = ephemeral_of(lane)
        role = lane_role(lane, LaneRole.CONSUMER)
        self._records = RecordFetcher(
            connection=Connection(cluster=cluster, role=role),
            group=f"{group_prefix(role)}fetcher",
            max_wait_s=MAX_WAIT_S,
            reads_ahead=False,
        )
        self._opener = ResultOpener.of(cluster, lane, now=now)

    def fetch(
        self, partition: int, offset: int, *, account: AccountId, upload_id: UploadId
    ) -> Cutout | Failure | Expired | None:
        """Return the result at this place, opened; None if it is deleted.

        None as well if it is the result of another upload.  Raises `Unavailable`, and `Refused`
        without the right to read or to the keys.
        """
        record = self._records.read(Partition(self._topic, partition), offset)
        if record is None:
            return None
        try:
            result = self._opener.result_of(record)
        except InvalidEvent:
            return None
        is_same = (result.account, result.id) == (account, upload_id)
        return result if is_same else None

    def drop_dead(self) -> None:
        """Drop every key that has died.  Call it regularly."""
        self._opener.drop_dead()

    def close(self) -> None:
        """Close the client."""
        self._records.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Write a gateway's marks on images, as the role `<lane>.account`."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.image_index import ImageMarked, ImageState
from erasestream.schemas.ids import AccountId, Lane, UploadId, image_key, owner_key
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.topic_names import marks_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

WRITE_TIMEOUT_S = 10.0


class ImageMarks:
    """Writes marks.  Thread-safe."""

    def __init__(self, writes: AcknowledgedWriter, lane: Lane, *, now: WallClock = utc_now) -> None:
        self._writes = writes
        self._lane = lane
        self._now = now

    def write(
        self, account: AccountId, upload_id: UploadId, state: ImageState, *, is_retained: bool
    ) -> None:
        """Mark an image; every gateway that reads the topic to its end knows of it from then on.

        Raises `Unavailable`, `Refused`; the mark may then have been written or not.
        """
        mark = ImageMarked(
            id=image_key(self._lane, account, upload_id),
            time=self._now(),
            owner=owner_key(self._lane, account),
            state=state,
            retained=is_retained,
        )
        wire = to_wire(mark, source=f"/lanes/{self._lane}/gateway")
        self._writes.write(Partition(marks_of(self._lane), 0), mark.id.encode(), wire)


@contextmanager
def image_marks(connection: Connection, lane: Lane) -> Iterator[ImageMarks]:
    """Open the writer of a lane's marks.  Raises `Refused` or `Unavailable`."""
    with Admin(connection) as admin:
        admin.check_rights({marks_of(lane): (Operation.WRITE,)})
    writes = AcknowledgedWriter(connection=connection, timeout_s=WRITE_TIMEOUT_S)
    with closing(writes):
        yield ImageMarks(writes, lane)

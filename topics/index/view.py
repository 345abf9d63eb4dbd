"""The index of a lane, read from the brokers.

* Entries count once they are committed: one of an aborted transaction leads to no result.
* It is loaded once everything that was acknowledged when it began is applied, of each partition.
* `marks_end` and `marks_applied` tell whether a mark that another gateway wrote is applied.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta

from erasestream.schemas.clocks import Clock, Deadline, WallClock
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.topic_names import index_of, marks_of
from erasestream.topics.index.owners import RecentUploads
from erasestream.topics.index.records import IndexedResult, Mark, read_record
from erasestream.topics.index.table import ImageTable
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.assigned_consumer import COMMITTED
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition, Record

LOAD_S = 2.0
"""Time in which a partition whose leader does not answer delays the others, while loading."""
LOOK_EVERY_S = 30.0
"""Interval at which added partitions are looked for, and old images dropped."""
KEPT = timedelta(hours=48)
"""An image is known for this long after its upload: twice as long as it can be opened."""

Tell = Callable[[Sequence[bytes]], None]
"""Takes the keys of the images about which something was applied."""


class ImageIndexView:
    """Follows `index.L` and `marks.L`.  `follow` is called by one thread, all else by any."""

    def __init__(
        self,
        view: CompactedView,
        admin: Admin,
        lane: Lane,
        *,
        partitions: int,
        now: WallClock,
        clock: Clock = time.monotonic,
    ) -> None:
        self._view, self._admin = view, admin
        self._index, self._marks = index_of(lane), Partition(marks_of(lane), 0)
        self._offsets = OffsetQueries(admin)
        self._now, self._clock = now, clock
        self._partitions = partitions
        self._tell: Tell = lambda _: None
        self._changed: list[bytes] = []
        self._look = Deadline(LOOK_EVERY_S, clock)
        self.table = ImageTable()
        self.recent = RecentUploads()
        self.unreadable: int = 0
        """Records that could not be read."""
        view.assign(self._all(), self._apply_all)
        self._left = set(self._all())

    def on_news(self, tell: Tell) -> None:
        """Call this, in the thread of `follow`, after records were applied."""
        self._tell = tell

    @property
    def is_loaded(self) -> bool:
        """Whether everything is applied that was acknowledged when this began."""
        return not self._left

    @property
    def loading(self) -> int:
        """How many offsets are applied of the partitions that are not loaded yet."""
        return sum(self._view.applied[at] for at in self._left)

    def follow(self, timeout_s: float) -> None:
        """Apply new records; wait up to the timeout for some."""
        if self._left:
            reached = self._view.catch_up_reachable(self._left, deadline_s=2 * LOAD_S)
            self._left = self._left - reached  # a new set: others read this one
        elif not self._view.read(timeout_s):
            self._view.advance()
            self._view.replace_if_lost()
        # Only now does what was read count as applied.
        if self._changed:
            changed, self._changed = self._changed, []
            self._tell(changed)
        if self._look.has_passed:
            self._look = Deadline(LOOK_EVERY_S, self._clock)
            self.forget_old()
            with suppress(Unavailable):
                self._add_partitions()

    def forget_old(self) -> None:
        """Drop the images whose time is over."""
        oldest_ms = int((self._now() - KEPT).timestamp() * 1000)
        self.table.drop_before(oldest_ms)
        self.recent.drop_old(self._now())

    def marks_end(self, timeout_s: float) -> int:
        """Return the end of the marks, as of now.  Raises `Unavailable`."""
        return self._offsets.log_ends([self._marks], timeout_s=timeout_s)[self._marks]

    @property
    def marks_applied(self) -> int:
        """How far the marks are applied."""
        return self._view.applied[self._marks]

    def _all(self) -> list[Partition]:
        return [self._marks, *(Partition(self._index, n) for n in range(self._partitions))]

    def _add_partitions(self) -> None:
        count = self._admin.partition_counts().get(self._index, 0)
        if count > self._partitions:
            starts = dict(self._view.applied)
            self._partitions = count
            starts = {at: starts.get(at, 0) for at in self._all()}
            self._view.assign(starts, self._apply_all, start=starts)

    def _apply_all(self, records: Sequence[Record]) -> None:
        for record in records:
            match read_record(record):
                case IndexedResult() as result:
                    if self.table.put(result):
                        self.recent.note(result.owner, result.uploaded_ms)
                    self._changed.append(result.key)
                case Mark() as mark:
                    self.table.mark(mark)
                    self._changed.append(mark.key)
                case None:
                    self.unreadable += 1


@contextmanager
def image_index_view(
    connection: Connection, lane: Lane, *, now: WallClock
) -> Iterator[ImageIndexView]:
    """Open the view of a lane's images.  Raises `Refused` or `Unavailable`."""
    read = (Operation.READ,)
    with ExitStack() as opened:
        admin = opened.enter_context(Admin(connection))
        counts = admin.check_rights({index_of(lane): read, marks_of(lane): read})
        view = CompactedView(
            connection=connection, topics={}, apply=lambda _: None, isolation=COMMITTED
        )
        opened.enter_context(closing(view))
        yield ImageIndexView(view, admin, lane, partitions=counts[index_of(lane)], now=now)

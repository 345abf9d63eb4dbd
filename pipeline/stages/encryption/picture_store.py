"""Store pictures whose grants are in force, many at the same time.

Rules, in this order:

1. Drop a picture whose grant is not the one in force: consent was withdrawn meanwhile.
2. Seal and create.  While the bucket or the key service is unavailable, retry the same picture.
3. Drop a sealed picture whose key is dead: nothing opens it any more.
4. Leave a sealed picture that its capsule does not open.
5. Check the erasure markers once more: the eraser deletes what was stored after its marker.

A picture has its outcome once all of them are done, in whatever order that happens.  Pictures in
flight are bounded in bytes and in number; one is always admitted, however large.
"""

import threading
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from enum import StrEnum
from typing import NamedTuple

from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.schemas.errors import Erased
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import GrantId, Lane, UploadId
from erasestream.sinks.images.capsule_keys import KeyDead, PictureBroken
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.records import Partition


class Outcome(StrEnum):
    """Outcome of a picture; also the name of a count."""

    STORED = "stored"
    DROPPED = "dropped"
    """Its consent was withdrawn meanwhile."""
    EXPIRED = "expired"
    """Its key died before it was stored."""
    UNREADABLE = "unreadable"


class Picture(NamedTuple):
    """A picture without its bytes: the position of its record, and whose it is."""

    at: Partition
    offset: int
    lane: Lane
    id: UploadId
    grant: GrantId

    @classmethod
    def of(cls, at: Partition, offset: int, event: Retained) -> "Picture":
        """Return the picture of a record."""
        return cls(at, offset, event.lane, event.id, event.grant)


Finished = list[tuple[Picture, Outcome]]


class _Check(NamedTuple):
    """A check of the markers of the grants of finished pictures."""

    pictures: Finished
    answers: list[Future[bool]]


class PictureStore:
    """Seals and creates pictures in parallel.  One thread calls it."""

    def __init__(
        self,
        *,
        view: ConsentView,
        sink: EncryptionSink,
        stopping: threading.Event,
        max_parallel: int,
        max_bytes: int,
    ) -> None:
        """`max_parallel` pictures are uploaded at the same time, and as many wait for a thread.

        `max_bytes` bounds what is read and not stored; memory has it twice, as read and as sealed.
        """
        self._view = view
        self._sink = sink
        self._stopping = stopping
        self._retry = RetryUntilStopped(stopping)
        self._max_parallel = max_parallel
        self._max_bytes = max_bytes
        self._pool = ThreadPoolExecutor(max_parallel, thread_name_prefix="sink")
        self._uploads: dict[Future[Outcome], tuple[Picture, int]] = {}
        self._bytes = 0
        self._unchecked: Finished = []
        self._check: _Check | None = None
        self.counts: Counter[str] = Counter()
        """Number of pictures of each outcome, and of grants that were erased while stored under."""

    @property
    def room_bytes(self) -> int:
        """Bytes that may be added; 0 also if there are too many pictures."""
        if len(self._uploads) >= 2 * self._max_parallel:
            return 0
        return max(self._max_bytes - self._bytes, 0)

    def begin(self, picture: Picture, event: Retained) -> None:
        """Begin to store a picture; the view must be fresh for its lane."""
        if not self._is_in_force(event):
            self._unchecked.append((picture, Outcome.DROPPED))
            return
        size = len(event.data)
        future = self._pool.submit(self._store, event)
        self._uploads[future] = (picture, size)
        self._bytes += size

    def finished(self) -> Finished:
        """Return the pictures that have an outcome, each once; waits for none.

        Raises what storing one of them raised, `Unavailable` only if the stage is to stop.
        """
        for future in [each for each in self._uploads if each.done()]:
            picture, size = self._uploads.pop(future)
            self._bytes -= size
            self._unchecked.append((picture, future.result()))
        if self._check is None and self._unchecked:
            stored = (each for each, outcome in self._unchecked if outcome is Outcome.STORED)
            answers = [
                self._pool.submit(self._is_erased, g) for g in {each.grant for each in stored}
            ]
            self._check = _Check(self._unchecked, answers)
            self._unchecked = []
        if self._check is None or not all(each.done() for each in self._check.answers):
            return []
        check, self._check = self._check, None
        self.counts.update(outcome for _, outcome in check.pictures)
        self.counts["erased"] += sum(each.result() for each in check.answers)
        return check.pictures

    def wait(self, timeout_s: float) -> None:
        """Wait until there is more room, at most for this time."""
        if self._uploads:
            wait(self._uploads, timeout_s, FIRST_COMPLETED)
        else:
            self._stopping.wait(timeout_s)

    def can_seal(self) -> bool:
        """Return whether master key and key service are available, as of now."""
        return self._sink.can_seal()

    def drop_dead_keys(self) -> None:
        """Drop the keys of epochs that have died."""
        self._sink.drop_dead_keys()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _is_in_force(self, event: Retained) -> bool:
        standing = self._view.active_grant(event.lane, event.account)
        return standing is not None and standing.grant == event.grant

    def _store(self, event: Retained) -> Outcome:
        return self._retry.call(lambda: self._create(event))

    def _create(self, event: Retained) -> Outcome:
        try:
            self._sink.store(event)
        except Erased:
            return Outcome.DROPPED
        except KeyDead:
            return Outcome.EXPIRED
        except PictureBroken:
            return Outcome.UNREADABLE
        return Outcome.STORED

    def _is_erased(self, grant: GrantId) -> bool:
        return self._retry.call(lambda: self._has_marker(grant))

    def _has_marker(self, grant: GrantId) -> bool:
        try:
            self._sink.assert_not_erased(grant)
        except Erased:
            return True
        return False

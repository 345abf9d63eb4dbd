"""Store pictures whose grants are in force, many at the same time.

Rules, in this order:

1. Drop a picture whose grant is not the one in force: consent was withdrawn meanwhile.
2. Seal and create.  While the bucket or the key service is unavailable, hand the picture back
   after a pause: its next attempt begins with rule 1, and a view that is fresh again.
3. Drop a sealed picture whose key is dead: nothing opens it any more.
4. Leave a sealed picture that its capsule does not open.
5. Check the erasure markers once more: the eraser deletes what was stored after its marker.

A picture has its outcome once all of them are done, in whatever order that happens.  Pictures in
flight are bounded in bytes and in number; one is always admitted, however large.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from enum import StrEnum
from typing import NamedTuple

from erasestream.pipeline.runtime.retry import OutageLog, RetryUntilStopped, pause_s
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Erased, Unavailable
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


class Attempt(NamedTuple):
    """A picture with its bytes, which is to be stored."""

    picture: Picture
    event: Retained


class _Check(NamedTuple):
    """A check of the markers of the grants of finished pictures."""

    pictures: Finished
    answers: list[Future[bool]]


class _FailedAttempts:
    """Pictures that wait for their next attempt."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outage = OutageLog()
        self._waiting: list[tuple[Deadline, Attempt]] = []
        self._failures = 0
        """Attempts that failed since one did not."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, attempt: Attempt, error: Unavailable) -> None:
        """Let a picture wait, the longer the more attempts have failed."""
        self._outage.report(error)
        self._failures += 1
        self._waiting.append((Deadline(pause_s(self._failures), self._clock), attempt))

    def end(self) -> None:
        """Note an attempt that did not fail."""
        self._outage.end_round()
        self._failures = 0

    def take_due(self) -> list[Attempt]:
        """Remove and return those that have waited."""
        due, waiting, self._waiting = list[Attempt](), self._waiting, []
        for pause, attempt in waiting:
            if pause.has_passed:
                due.append(attempt)
            else:
                self._waiting.append((pause, attempt))
        return due


class _MarkerChecks:
    """Checks of the erasure markers of finished pictures, one request per grant at a time."""

    def __init__(self, pool: ThreadPoolExecutor, is_erased: Callable[[GrantId], bool]) -> None:
        self._pool = pool
        self._is_erased = is_erased
        self._unchecked: Finished = []
        self._current: _Check | None = None

    def add(self, picture: Picture, outcome: Outcome) -> None:
        """Take a picture that has an outcome, to be checked if it was stored."""
        self._unchecked.append((picture, outcome))

    def take_done(self) -> _Check | None:
        """Return a check whose answers are there, each once; begin the next one if none runs."""
        if self._current is None and self._unchecked:
            stored = (each for each, outcome in self._unchecked if outcome is Outcome.STORED)
            answers = [
                self._pool.submit(self._is_erased, g) for g in {each.grant for each in stored}
            ]
            self._current = _Check(self._unchecked, answers)
            self._unchecked = []
        if self._current is None or not all(each.done() for each in self._current.answers):
            return None
        check, self._current = self._current, None
        return check


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
        clock: Clock = time.monotonic,
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
        self._uploads: dict[Future[Outcome], Attempt] = {}
        self._failed = _FailedAttempts(clock)
        self._bytes = 0
        self._checks = _MarkerChecks(self._pool, self._is_erased)
        self.counts: Counter[str] = Counter()
        """Number of pictures of each outcome, and of grants that were erased while stored under."""

    @property
    def room_bytes(self) -> int:
        """Bytes that may be added; 0 also if there are too many pictures."""
        if len(self._uploads) + len(self._failed) >= 2 * self._max_parallel:
            return 0
        return max(self._max_bytes - self._bytes, 0)

    def begin(self, picture: Picture, event: Retained) -> None:
        """Begin to store a picture; the view must be fresh for its lane."""
        if not self._is_in_force(event):
            self._checks.add(picture, Outcome.DROPPED)
            return
        future = self._pool.submit(self._create, event)
        self._uploads[future] = Attempt(picture, event)
        self._bytes += len(event.data)

    def take_failed(self) -> list[Attempt]:
        """Return the pictures whose next attempt is due, and forget them: begin them again."""
        due = self._failed.take_due()
        self._bytes -= sum(len(each.event.data) for each in due)
        return due

    def finished(self) -> Finished:
        """Return the pictures that have an outcome, each once; waits for none.

        Raises what storing one of them raised, `Unavailable` only if the stage is to stop.
        """
        for future in [each for each in self._uploads if each.done()]:
            self._take_answer(future, self._uploads.pop(future))
        if (check := self._checks.take_done()) is None:
            return []
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

    def _take_answer(self, future: Future[Outcome], attempt: Attempt) -> None:
        try:
            outcome = future.result()
        except Unavailable as error:
            self._failed.add(attempt, error)
            return
        self._failed.end()
        self._bytes -= len(attempt.event.data)
        self._checks.add(attempt.picture, outcome)

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

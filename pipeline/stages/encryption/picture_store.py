"""Store pictures whose grants are in force.

Rules, in this order:

1. Drop a picture whose grant is not the one in force: consent was withdrawn meanwhile.
2. Seal and create.  While the bucket or the key service is unavailable, retry the same picture.
3. Drop a sealed picture whose key is dead: nothing opens it any more.
4. Leave a sealed picture that its capsule does not open.
5. Check the erasure markers once more: the eraser deletes what was stored after its marker.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.schemas.errors import Erased
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import GrantId
from erasestream.sinks.images.capsule_keys import KeyDead, PictureBroken
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.topics.consent.view import ConsentView

MAX_PARALLEL = 8
"""Pictures that are sealed and stored at the same time; a picture has at most 64 MB."""


class Outcome(StrEnum):
    """Outcome of a picture; also the name of a count."""

    STORED = "stored"
    DROPPED = "dropped"
    """Its consent was withdrawn meanwhile."""
    EXPIRED = "expired"
    """Its key died before it was stored."""
    UNREADABLE = "unreadable"


class PictureStore:
    """Seals and creates pictures in parallel; the view must be fresh for their lanes."""

    def __init__(
        self, *, view: ConsentView, sink: EncryptionSink, stopping: threading.Event
    ) -> None:
        self._view = view
        self._sink = sink
        self._retry = RetryUntilStopped(stopping)
        self._pool = ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix="sink")
        self.counts: Counter[str] = Counter()
        """Number of pictures of each outcome, and of grants that were erased meanwhile."""

    def store(self, pictures: list[Retained]) -> list[Outcome]:
        """Store the pictures whose grants are in force; return the outcome of each.

        Raises `Unavailable` only if the stage is to stop.
        """
        in_force = [self._is_in_force(each) for each in pictures]
        outcomes = list(self._pool.map(self._store_one, pictures, in_force))
        self.counts.update(outcomes)
        grants = {event.grant for event, is_kept in zip(pictures, in_force, strict=True) if is_kept}
        erased = self._pool.map(lambda g: self._retry.call(lambda: self._is_erased(g)), grants)
        self.counts["erased"] += sum(erased)
        return outcomes

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

    def _store_one(self, event: Retained, is_in_force: bool) -> Outcome:  # noqa: FBT001
        if not is_in_force:
            return Outcome.DROPPED
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
        try:
            self._sink.assert_not_erased(grant)
        except Erased:
            return True
        return False

"""Store pictures whose grants are in force.

Rules, in this order:

1. Drop a picture whose grant is not the one in force: consent was withdrawn meanwhile.
2. Seal and create.  While the bucket is unavailable, retry the same picture.
3. Check the erasure markers once more: the eraser deletes what was stored after its marker.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.schemas.errors import Erased
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import GrantId
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.topics.consent.view import ConsentView

MAX_PARALLEL = 8
"""Pictures that are sealed and stored at the same time; a picture has at most 64 MB."""


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
        """Number of pictures that were stored, dropped or erased meanwhile."""

    def store(self, pictures: list[Retained]) -> None:
        """Store the pictures whose grants are in force.

        Raises `Unavailable` only if the stage is to stop.
        """
        kept = [each for each in pictures if self._is_in_force(each)]
        self.counts["dropped"] += len(pictures) - len(kept)
        stored = self._pool.map(lambda event: self._retry.call(lambda: self._create(event)), kept)
        self.counts.update(stored)
        grants = {event.grant for event in kept}
        erased = self._pool.map(lambda g: self._retry.call(lambda: self._is_erased(g)), grants)
        self.counts["erased"] += sum(erased)

    def can_seal(self) -> bool:
        """Return whether the master key can be read, as of now."""
        return self._sink.can_seal()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _is_in_force(self, event: Retained) -> bool:
        standing = self._view.active_grant(event.lane, event.account)
        return standing is not None and standing.grant == event.grant

    def _create(self, event: Retained) -> str:
        try:
            self._sink.store(event)
        except Erased:
            return "dropped"
        return "stored"

    def _is_erased(self, grant: GrantId) -> bool:
        try:
            self._sink.assert_not_erased(grant)
        except Erased:
            return True
        return False

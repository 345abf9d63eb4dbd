"""The stage of the encryption sink: check consent again, seal, create, then commit.

Rules, in this order, for each batch:

1. Take a mark of one's own, after reading, and wait until the consent view reaches it, and
   what the router knew when it decided: a leader that was deposed and does not know it yet
   answers the mark of before, in which the very grant of a picture can be missing.
2. A picture whose grant is not the one in force is dropped: consent was withdrawn since.
3. Seal and create; a bucket that is away is waited for, with the same picture.
4. Look at the erasure markers once more, then commit.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import Erased, InvalidInput, InvariantBroken
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import GrantId
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.topics.catalog.topic_names import RETAINED, consent_of
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.records import Partition, Record

BATCH = 8
"""Pictures that are sealed and sent side by side; a picture has 64 MB at most."""
WAIT_S = 1.0


class EncryptionStage:
    """Stores what the router retained, once, and only while its grant is in force."""

    def __init__(
        self,
        *,
        queue: WorkQueue,
        view: ConsentView,
        sink: EncryptionSink,
        stopping: threading.Event,
    ) -> None:
        self._queue = queue
        self._view = view
        self._sink = sink
        self._patience = RetryUntilStopped(stopping)
        self._pool = ThreadPoolExecutor(BATCH, thread_name_prefix="sink")
        self.counts: Counter[str] = Counter()
        """How many pictures were stored or dropped."""

    def run_once(self, timeout_s: float = 0.2) -> None:
        """One batch.  Raises `Unavailable` only if the stage shall end."""
        records = self._queue.read(timeout_s=timeout_s, most=BATCH)
        if not records:
            return
        events = [_event(record) for record in records]
        self._patience.call(lambda: self._freshen(events))
        kept = [event for event in events if self._is_in_force(event)]
        self.counts["dropped"] += len(events) - len(kept)
        stored = self._pool.map(lambda event: self._patience.call(lambda: self._store(event)), kept)
        self.counts.update(stored)
        self._patience.call(lambda: self._look_again(event.grant for event in kept))
        self._queue.done(records)

    def is_ready(self) -> bool:
        """Return whether the group has answered."""
        return self._queue.has_joined

    def close(self) -> None:
        """Stop storing; what is not committed is redelivered."""
        self._pool.shutdown(cancel_futures=True)

    def _freshen(self, events: Iterable[Retained]) -> None:
        mark = dict(self._view.mark())
        for event in events:
            at, offset = _known(event)
            if at in mark:  # else its lane is gone, and nothing of it is in force
                mark[at] = max(mark[at], offset)
        self._view.catch_up(mark, deadline_s=WAIT_S)

    def _is_in_force(self, event: Retained) -> bool:
        standing = self._view.active_grant(event.lane, event.account)
        return standing is not None and standing.grant == event.grant

    def _store(self, event: Retained) -> str:
        try:
            self._sink.store(event)
        except Erased:
            return "dropped"
        return "stored"

    def _look_again(self, grants: Iterable[GrantId]) -> None:
        for grant in set(grants):
            try:
                self._sink.assert_not_erased(grant)
            except Erased:
                # The eraser comes after its marker and takes what was just stored.
                self.counts["erased"] += 1


def _event(record: Record) -> Retained:
    try:
        return from_wire(Retained, record.headers, record.value)
    except InvalidInput as error:
        raise InvariantBroken(f"{RETAINED} at {record.offset}: {error.code}") from error


def _known(event: Retained) -> tuple[Partition, int]:
    """How much of the account's consent partition the router had applied."""
    number, _, offset = event.mark.partition("/")
    return Partition(consent_of(event.lane), int(number)), int(offset)

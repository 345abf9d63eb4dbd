"""The thread that reads results, and what it shares with those who take them.

librdkafka's consumer waits for the brokers in many places: before a revocation, when it leaves the
group, when the certificate was renewed.  So one thread of its own makes all of these calls, and
callers wait for that thread, no longer than they want.  Rules:

* The thread holds the only reference to the consumer, and closes it, whatever ends the reading: to
  collect an open consumer would freeze the process.  Nothing in the thread refers to the object
  that users hold, so that dropping that ends the thread.
* Results are decoded here, and sealed ones whose key is known are opened, before they are queued: a
  caller that did it would take turns with this thread at the interpreter's lock, for each of them.
* It fetches while callers wait, and ahead of them into a bounded queue.  Without calls for
  `max_processing_s` the partitions go to another member, except while the reading is paused.
* An error that does not pass is raised to the next caller; the thread goes on.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.client.delivery_queue import DeliveryQueue
from erasestream.topics.client.fetched_results import Fetched, FetchedRecord, Outcome
from erasestream.topics.client.result_opening import ResultOpener
from erasestream.topics.kafka.consumer.group_consumer import GroupConsumer
from erasestream.topics.kafka.consumer.offset_committer import Commits
from erasestream.topics.kafka.records import Partition

log = logging.getLogger(__name__)

POLL_S = 0.2
"""Longest single wait inside librdkafka: bounds how late `close` is noticed."""
FIRST_POLL_S = 0.01
"""First wait after a record; each next one is twice as long.  A busy reader closes at once."""
WAKE_EVERY_S = 0.001
"""Interval at which callers are woken while more is fetched: waking one takes as long as reading a
result.  Callers look on their own, too, in case a call to librdkafka waits for the brokers."""
POLL_EVERY_S = 1.0
"""Interval at which librdkafka is called for callers who take from a full queue, or while paused:
well below `max_processing_s`."""


class FetchSession:
    """Queue, demand and end of the reading, under one lock.

    The lock is reentrant, and waiting gives it up: a signal handler of a thread that waits, and
    `__del__` in a thread that holds it, can call everything here.
    """

    def __init__(self, queue: DeliveryQueue, clock: Clock) -> None:
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.queue = queue
        self.on_news: list[Callable[[], None]] = []
        """Called after a change, for callers that do not wait on `changed`."""
        self.waiting = 0
        """Number of callers that wait for a result."""
        self.is_paused = self.is_closing = self.has_ended = False
        self.failure: Exception | None = None
        """Raised to the next caller."""
        self.unsaved: int | None = None
        """Acknowledgements that are not committed, once the reading ends."""
        self._sealed = threading.Condition(lock)
        """Notified when there is a result to open."""
        self._awaits_key = False
        self._is_wanted = False
        self._clock = clock
        self._next_poll = Deadline(POLL_EVERY_S, clock)

    def notify(self) -> None:
        """Wake the threads and all callers."""
        with self.changed:
            self.changed.notify_all()
            if self.is_closing:
                self._sealed.notify_all()
        for tell in list(self.on_news):
            tell()

    def want(self) -> None:
        """Ask the thread to fetch ahead."""
        with self.changed:
            if not self._is_wanted and (self.queue.has_room(0.5) or self._next_poll.has_passed):
                self._is_wanted = True
                self.changed.notify_all()

    def await_work(self) -> bool:
        """Wait until something is to be fetched; return False once the reading is to end."""
        with self.changed:
            while not self.is_closing:
                if self.is_held:
                    self.changed.wait(POLL_EVERY_S)
                    break
                if self.has_demand:
                    break
                self.changed.wait()
            self._is_wanted = False
            self._next_poll = Deadline(POLL_EVERY_S, self._clock)
            return not self.is_closing

    @property
    def is_held(self) -> bool:
        """Whether nothing is to be fetched, and librdkafka to be called all the same."""
        awaits_key = self._awaits_key and self.waiting > 0 and not self.queue.has_room()
        return self.is_paused or awaits_key

    @property
    def has_demand(self) -> bool:
        """Whether callers want more than what waits to be opened."""
        is_waiting = self.waiting > 0 and self.failure is None
        return self._is_wanted or (is_waiting and self.queue.has_room())

    @property
    def may_wait(self) -> bool:
        """Whether to wait for the first record: some caller waits."""
        with self.changed:
            return self.waiting > 0 and not self.is_held

    def put(self, item: Fetched) -> bool:
        """Queue what was fetched; return whether there is room for more.  Then `notify`."""
        with self.changed:
            self.queue.put(item)
            if isinstance(item, FetchedRecord) and item.outcome is None:
                self._sealed.notify_all()
            return self.queue.has_room() and not self.is_closing

    def await_sealed(self, timeout_s: float) -> FetchedRecord | None:
        """Return the next record to open, or None if none came in time."""
        with self.changed:
            if (item := self.queue.next_sealed()) is None and not self.is_closing:
                self._sealed.wait(timeout_s)
                item = self.queue.next_sealed()
            return item

    def await_key(self, timeout_s: float) -> None:
        """Wait to open the same record again."""
        deadline = Deadline(timeout_s, self._clock)
        with self.changed:
            self._awaits_key = True
            self.changed.notify_all()
            while not (self.is_closing or deadline.has_passed):
                self._sealed.wait(deadline.remaining_s)

    def opened(self, item: FetchedRecord, outcome: Outcome) -> None:
        """Take the outcome of a record that was opened."""
        with self.changed:
            item.complete(outcome)
            self._awaits_key = False
        self.notify()

    def fail(self, error: Exception) -> None:
        """Let the next caller raise this."""
        with self.changed:
            self.failure = error
        self.notify()

    @property
    def uncommitted(self) -> int:
        """Number of acknowledgements that are not committed."""
        return self.queue.tracker.uncommitted if self.unsaved is None else self.unsaved

    def end(self, unsaved: int) -> None:
        """Note that the group is left, and how many acknowledgements were not committed."""
        with self.changed:
            self.unsaved, self.has_ended = unsaved, True
        self.notify()


class Patience:
    """How long to wait inside librdkafka for a first record: twice as long each time in vain."""

    def __init__(self) -> None:
        self._next_s = FIRST_POLL_S

    def next_s(self) -> float:
        """Return how long to wait now."""
        now_s = self._next_s
        self._next_s = min(2 * now_s, POLL_S)
        return now_s

    def reset(self) -> None:
        """Begin with the shortest wait: there was a record."""
        self._next_s = FIRST_POLL_S


class LockedAcknowledgements:
    """The acknowledgements of a session, for its consumer.

    Revoking drops what is queued in the same step: nothing of it is delivered later.
    """

    def __init__(self, session: FetchSession) -> None:
        self._session = session
        self._tracker = session.queue.tracker
        self.resume = self._tracker.resume
        self.to_commit = self._tracker.to_commit
        self.mark_committed = self._tracker.mark_committed
        self.omit_metadata = self._tracker.omit_metadata

    def revoke(self, partitions: Iterable[Partition] | None = None) -> Commits:
        """Drop partitions, and return what is to be committed."""
        with self._session.changed:
            return self._session.queue.revoke(partitions)


def start_fetching(
    session: FetchSession, member: GroupConsumer, opener: ResultOpener, name: str
) -> None:
    """Read in a thread of its own until the session is closing; then leave the group."""
    thread = threading.Thread(target=_run, args=(session, member, opener), name=name, daemon=True)
    try:
        thread.start()
    except BaseException:
        member.close()
        raise


def _run(session: FetchSession, member: GroupConsumer, opener: ResultOpener) -> None:
    patience = Patience()
    try:
        while session.await_work():
            try:
                _fetch(session, member, opener, patience)
            except Exception as error:  # noqa: BLE001 (raised to the next caller)
                session.fail(error)
    finally:
        _leave(session, member)


def _fetch(
    session: FetchSession, member: GroupConsumer, opener: ResultOpener, patience: Patience
) -> None:
    """Fetch until the queue is full or nothing is left."""
    member.pause(is_paused=session.is_held)
    _seek(session, member)
    wait_s = patience.next_s() if session.may_wait else 0.0
    item = member.poll(wait_s)
    if item is not None:
        patience.reset()
    elif wait_s == POLL_S:
        session.queue.tracker.nothing_left()
    wake = Deadline(WAKE_EVERY_S, time.monotonic)
    while item is not None and session.put(opener.prepare(item)):
        if wake.has_passed:
            session.notify()
            wake = Deadline(WAKE_EVERY_S, time.monotonic)
        item = member.poll(0)
    session.notify()


def _seek(session: FetchSession, member: GroupConsumer) -> None:
    with session.changed:
        seeks = session.queue.seeks()
    if seeks:
        with suppress(Unavailable):  # not fetched yet: again before the next poll
            member.seek(seeks)
            with session.changed:
                session.queue.sought(seeks)


def _leave(session: FetchSession, member: GroupConsumer) -> None:
    tracker = session.queue.tracker
    lost_before = member.lost
    session.unsaved = tracker.uncommitted
    try:
        member.close()
    except Exception as error:  # noqa: BLE001 (nothing can be done about it any more)
        log.warning("close_failed", extra={"reason": type(error).__name__})
    finally:
        session.end(tracker.uncommitted + member.lost - lost_before)

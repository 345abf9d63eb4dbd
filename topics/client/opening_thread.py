"""The thread that opens the sealed results whose keys are not known yet, and waits for these.

The thread that reads (`fetch_thread.py`) must go on to call librdkafka, or the partitions go to
another member; and a call of a user returns at its timeout.  So neither waits for a key.  Rules:

* Results are opened in the order in which they were fetched; while a key is awaited, those behind
  it wait too, and nothing is skipped.
* An unavailable key service is logged once, and asked again.
* An error that does not pass is raised to the next caller, and what caused it is tried again.
* Nothing in the thread refers to the object that users hold.
"""

import logging
import threading
import time

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import InvalidEvent, Unavailable
from erasestream.topics.client.fetch_thread import FetchSession
from erasestream.topics.client.fetched_results import FetchedRecord
from erasestream.topics.client.result_opening import ResultOpener
from erasestream.topics.kafka.backoff import pause_s

log = logging.getLogger(__name__)

DROP_EVERY_S = 60.0
"""Interval at which dead keys are dropped."""
MAX_PAUSE_S = 5.0


def start_opening(session: FetchSession, opener: ResultOpener, name: str) -> None:
    """Open results until the session is closing."""
    thread = threading.Thread(target=_run, args=(session, opener), name=name, daemon=True)
    try:
        thread.start()
    except BaseException:
        session.is_closing = True  # or the thread that reads would go on
        session.notify()
        raise


def _run(session: FetchSession, opener: ResultOpener) -> None:
    drop = Deadline(DROP_EVERY_S, time.monotonic)
    while not session.is_closing:
        if drop.has_passed:
            opener.drop_dead()
            drop = Deadline(DROP_EVERY_S, time.monotonic)
        if (item := session.await_sealed(drop.remaining_s)) is not None:
            _open(session, opener, item)


def _open(session: FetchSession, opener: ResultOpener, item: FetchedRecord) -> None:
    """Open a record, or try again until it is dropped or the session is closing."""
    failures = 0
    while not (item.is_dropped or session.is_closing):
        try:
            session.opened(item, opener.result_of(item.record))
        except InvalidEvent as invalid:
            session.opened(item, invalid)
        except Unavailable as error:
            if not failures:
                log.warning("keys_unavailable", extra={"reason": error.detail})
        except Exception as error:  # noqa: BLE001 (raised to the next caller)
            session.fail(error)
        if item.outcome is not None:
            return
        failures += 1
        session.await_key(pause_s(failures, MAX_PAUSE_S))

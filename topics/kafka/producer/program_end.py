"""Deliver what waits when a program ends without closing its producers.

A program that ends stops its threads, and librdkafka drops its queue.  Rules:

* At the end of the interpreter, after the program's own threads, all clients together have
  `FLUSH_S` seconds to be acknowledged.  The same holds for a child process of `multiprocessing`.
* Records that wait after that are given up: their futures fail.  The number is written to standard
  error and logged as `uploads_lost`, and the exit status of the interpreter is 120.
* A signal that is not handled, and `os._exit`, end a process without any of this.
"""

import atexit
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol, TextIO

from erasestream.schemas.clocks import Deadline
from erasestream.topics.kafka.child_end import at_end_of_child

log: logging.Logger = logging.getLogger(__name__)

FLUSH_S = 10.0
"""Longest wait for acknowledgements at the end of a program, for all of its clients together."""
GIVE_UP_S = 2.0
"""Longest wait until the outcomes of given-up records are passed on."""
_POLL_S = 0.02


class SendingClient(Protocol):
    """A client and the thread that serves it."""

    name: str

    @property
    def waiting(self) -> int:
        """Number of records without an outcome."""

    @property
    def is_running(self) -> bool:
        """Whether the thread runs."""

    def give_up(self) -> None:
        """Give up all records that wait."""

    def abandon(self) -> None:
        """End the thread without closing the client."""


_clients: dict[SendingClient, int] = {}
"""Clients that are not closed, each with the process that opened it."""


def opened(client: SendingClient) -> None:
    """Note a client that can have records."""
    if os.getpid() not in _clients.values():
        at_end_of_child(_flush)
    _clients[client] = os.getpid()


def closed(client: SendingClient) -> None:
    """Forget a client that has none any more."""
    _clients.pop(client, None)


@atexit.register
def _end() -> None:
    if _flush():
        _fail_at_exit()
    # No thread may be in librdkafka when Python stops it.
    clients = _own_clients()
    for client in clients:
        client.abandon()
    _wait(lambda: not any(client.is_running for client in clients), GIVE_UP_S)


def _flush() -> int:
    """Wait for acknowledgements, give up the rest, and return the number of lost records."""
    clients = _own_clients()

    def is_done() -> bool:
        return not any(client.waiting for client in clients)

    if _wait(is_done, FLUSH_S):
        return 0
    lost = Counter({client.name: client.waiting for client in clients})
    for client in clients:
        client.give_up()
    _wait(is_done, GIVE_UP_S)
    for name, count in (+lost).items():
        _report(name, count)
    return lost.total()


def _own_clients() -> list[SendingClient]:
    """Return the clients of this process; a child that was forked has its parent's, too."""
    return [client for client, process in list(_clients.items()) if process == os.getpid()]


def _wait(is_done: Callable[[], bool], timeout_s: float) -> bool:
    """Return whether it is done within the timeout; Ctrl-C ends the wait."""
    deadline = Deadline(timeout_s, time.monotonic)
    try:
        while not is_done():
            if deadline.has_passed:
                return False
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return is_done()
    return True


def _report(name: str, count: int) -> None:
    if log.hasHandlers():
        log.error("uploads_lost", extra={"count": count, "instance": name})
    if sys.stderr is not None:
        sys.stderr.write(
            f"erasestream: {name}: {count} uploads were not acknowledged within {FLUSH_S:g} s of"
            " the end of the program and are lost; close the producer, or use a with block\n"
        )


class _FailsToFlush:
    """A stream whose last flush, by the interpreter, fails."""

    closed = False

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def flush(self) -> None:
        """Flush, and fail at the end of the interpreter."""
        if self._stream is not None:
            self._stream.flush()
        if sys.is_finalizing():
            raise OSError("uploads are lost")


def _fail_at_exit() -> None:
    """Let the interpreter exit with 120, as documented for `sys.exit`: a cleanup failed.

    `os._exit` would skip the functions of `atexit` that come after ours.
    """
    sys.stderr = _FailsToFlush(sys.stderr)

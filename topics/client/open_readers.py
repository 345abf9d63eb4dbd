"""Let subscriptions that a program left open, or dropped, commit when the program ends.

A dropped subscription leaves its group in a thread of its own, which the end of the interpreter
stops.  So at that end, and at the end of a child of `multiprocessing`, all readers whose group is
not left have the longest `limits.close_s` of them together.  Acknowledgements that are not
committed by then are counted on standard error.
"""

import atexit
import sys
import time
import warnings
from typing import Protocol

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.child_end import at_end_of_child


class OpenReader(Protocol):
    """A reader that leaves its group when it is released."""

    close_s: float

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process made it, not one that forked this one."""

    @property
    def is_closing(self) -> bool:
        """Whether it was released."""

    @property
    def has_ended(self) -> bool:
        """Whether the group is left."""

    def release(self) -> None:
        """Begin to commit and to leave the group."""

    def close(self, timeout_s: float | None = None) -> None:
        """Wait until the group is left; raise `Unavailable` for what is not committed."""


_readers: set[OpenReader] = set()
"""Readers of this process and of those that forked it, until closed."""


def opened(reader: OpenReader) -> None:
    """Note a reader."""
    for each in list(_readers):
        if each.has_ended:
            closed(each)
    if not _own_readers():
        at_end_of_child(_close_all)
    _readers.add(reader)


def closed(reader: OpenReader) -> None:
    """Forget a reader that has left its group, or whose `close` has reported that it has not."""
    _readers.discard(reader)


def _own_readers() -> list[OpenReader]:
    return [reader for reader in list(_readers) if reader.is_of_this_process]


@atexit.register
def _close_all() -> None:
    """Close all at once, and report what is not committed."""
    readers = _own_readers()
    _readers.clear()
    for reader in readers:
        if not reader.is_closing:
            reader.release()
            warnings.warn(f"unclosed {reader!r}", ResourceWarning, stacklevel=2)
    deadline = Deadline(max((reader.close_s for reader in readers), default=0.0), time.monotonic)
    for reader in readers:
        try:
            reader.close(deadline.slice_s(reader.close_s))
        except Unavailable as lost:
            if sys.stderr is not None:
                sys.stderr.write(f"erasestream: {lost.sentence}\n")

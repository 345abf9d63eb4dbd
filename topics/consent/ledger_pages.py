"""Pages: the rows of 512 offsets of a partition, behind which the next eraser begins.

Rules, all of them:

* Pages follow from the records alone (`ledger_rows.py`): every eraser writes the same bytes.
  So a page is created once, and erasers beside each other need not agree.
* A page has each offset from its first to its last, read in this order.  A gap, or an offset that
  comes twice, is believed by no page: this process writes no more of that partition.
* A page is written once the record behind it was read, too: an offset that a client forged at its
  end is seen to be one.
* A reader uses the pages from the first one on, without gap, and reads on from there.
"""

from collections.abc import Callable, Mapping, Sized
from typing import Protocol

from erasestream.topics.consent.ledger_rows import pack_rows
from erasestream.topics.kafka.records import Partition

PAGE = 512
"""Offsets of a page: what is left to read at the start of an eraser, for each partition."""


def end_of(pages: Sized) -> int:
    """Return the offset behind these pages, from the first one on."""
    return len(pages) * PAGE


class LedgerPages(Protocol):
    """Where pages are kept."""

    def read(self) -> Mapping[Partition, list[bytes]]:
        """Return the pages of each partition, from the first one on.  Raises `Unavailable`."""

    def write(self, at: Partition, number: int, page: bytes) -> None:
        """Keep a page, at once or later, or never; waits for nothing."""


class PageWriter:
    """Puts the rows of one partition onto pages."""

    def __init__(self, write: Callable[[int, bytes], None], *, first: int) -> None:
        """`first`: the offset with which its records are read, that of a page's first row."""
        self._write = write
        self._next = first
        self._rows: list[bytes] = []
        self._is_broken = first % PAGE != 0

    def add(self, offset: int, row: bytes) -> None:
        """Take the row of the next record."""
        if self._is_broken:
            return
        if offset != self._next:
            self._is_broken = True
            self._rows.clear()
            return
        if offset % PAGE == 0 and self._rows:
            self._write(offset // PAGE - 1, pack_rows(self._rows))
            self._rows.clear()
        self._rows.append(row)
        self._next += 1

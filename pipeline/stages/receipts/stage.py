"""Write receipts into the transparency log, in the order in which the ledgers are read.

In every turn: read what has arrived, and append the leaves of it once they are many or have waited
for `LINGER_S`, together with the offsets up to which the ledgers were read.  The log itself
remembers these, so that a receipt is neither lost nor repeated whenever this process is killed,
or another appends at the same time (`sinks/log/log_writer.py`).

Entries are acknowledged in the ledger only after what they are about was done and seen, so no
receipt precedes its deed.  While the log or a ledger is unavailable, nothing else waits for it.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from erasestream.pipeline.runtime.retry import RETRY_S, OutageLog
from erasestream.pipeline.stages.receipts.leaves import LeafBuilder
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.sinks.log.log_writer import MAX_BATCH, LogWriter
from erasestream.topics.kafka.consumer.assigned_consumer import MAX_READ
from erasestream.topics.kafka.records import Partition, Record

LINGER_S = 1.0
"""Time for which a leaf waits for others: each batch costs a few objects."""

Offsets = Mapping[Partition, int]


class LedgerReader(Protocol):
    """Reads partitions from given offsets on."""

    def assign(
        self,
        partitions: Iterable[Partition],
        apply_all: Callable[[Sequence[Record]], None],
        *,
        start: Offsets | None = None,
    ) -> None:
        """Read these partitions and no others."""

    def read(self, timeout_s: float) -> int:
        """Apply what has arrived, waiting up to the timeout for the first record."""

    def replace_if_lost(self) -> None:
        """Replace a client that has lost its brokers."""

    @property
    def applied(self) -> Offsets:
        """Per partition the offset after the last record that was applied."""


class ReceiptStage:
    """Reads the ledgers and appends to the log, in turns.

    `starts` returns the log starts of partitions: for those that the log has no position of.
    `publish` does a turn of `publisher.py`.
    """

    def __init__(
        self,
        *,
        reader: LedgerReader,
        partitions: Sequence[Partition],
        starts: Callable[[Iterable[Partition]], Offsets],
        builder: LeafBuilder,
        writer: LogWriter,
        publish: Callable[[], None],
        stopping: threading.Event,
        clock: Clock = time.monotonic,
    ) -> None:
        self._reader = reader
        self._partitions = {f"{at.topic}/{at.number}": at for at in partitions}
        self._starts = starts
        self._builder = builder
        self._writer = writer
        self._publish = publish
        self._stopping = stopping
        self._clock = clock
        self._outage = OutageLog()
        self._leaves: list[bytes] = []
        self._due = Deadline(0, clock)
        self._is_assigned = False

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Do one turn."""
        try:
            if not self._is_assigned:
                self._assign()
            if not self._is_full:
                self._reader.read(timeout_s)
                self._reader.replace_if_lost()
            if self._leaves and (self._is_full or self._due.has_passed):
                self._append()
            self._publish()
        except Unavailable as error:
            self._outage.report(error)
            self._stopping.wait(RETRY_S)
        self._outage.end_round()

    def is_ready(self) -> bool:
        """Return whether the log was opened and the ledgers are read."""
        return self._is_assigned

    def close(self) -> None:
        """Do nothing: what is not appended is read again."""

    @property
    def size(self) -> int:
        """Return how many leaves the log has."""
        return self._writer.size

    @property
    def _is_full(self) -> bool:
        return len(self._leaves) > MAX_BATCH - MAX_READ

    def _assign(self) -> None:
        """Read from where the log is, and new partitions from where they begin."""
        known = self._writer.positions
        starts = self._starts(at for name, at in self._partitions.items() if name not in known)
        positions = {at: known[name] for name, at in self._partitions.items() if name in known}
        self._leaves.clear()
        self._reader.assign(self._partitions.values(), self._take, start={**positions, **starts})
        self._is_assigned = True

    def _take(self, records: Sequence[Record]) -> None:
        leaves = [each.leaf for record in records if (each := self._builder.build(record))]
        if leaves and not self._leaves:
            self._due = Deadline(LINGER_S, self._clock)
        self._leaves += [leaf.encode() for leaf in leaves]

    def _append(self) -> None:
        applied = {f"{at.topic}/{at.number}": to for at, to in self._reader.applied.items()}
        # Those of lanes that the settings no longer have are kept.
        self._is_assigned = self._writer.append(self._leaves, {**self._writer.positions, **applied})
        self._leaves.clear()

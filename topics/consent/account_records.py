"""The records of one account in one place, which repeated queries read on."""

from collections.abc import Callable
from typing import Protocol

from erasestream.topics.consent.ledger_place import Place
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Record


class PlaceReader(Protocol):
    """Reads places (`ConsentReader`)."""

    def read(
        self, place: Place, *, apply: Callable[[Record], None], begin: Mark | None = None
    ) -> Mark:
        """Apply the records in one place, and return the offset read up to."""


class AccountRecords:
    """Applies each record of a place once, in their order."""

    def __init__(
        self, reader: PlaceReader, place: Place, *, apply: Callable[[Record], None]
    ) -> None:
        self._reader, self._place, self._apply = reader, place, apply
        self._reached: Mark | None = None

    def catch_up(self) -> None:
        """Apply all new records, or none."""
        begin, records = self._reached, list[Record]()
        reached = self._reader.read(self._place, apply=records.append, begin=begin)
        for record in records:
            # A deposed leader has fewer records; then they are read from the beginning.
            if begin is None or record.offset >= begin[record.at]:
                self._apply(record)
        self._reached = reached

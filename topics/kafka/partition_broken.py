"""The error for a defect of one partition, which concerns nothing else.

The partition is quarantined; the process goes on with all others.

In a group's committed metadata, the name of the defect precedes those of a quarantined partition.
So a repair knows which partitions no member reads (`admin/router_recovery.py`).
"""

from enum import StrEnum
from typing import NamedTuple, Protocol

from erasestream.schemas.errors import InvariantBroken
from erasestream.topics.kafka.records import Partition


class Defect(StrEnum):
    """Code of a quarantine: the reason why a partition cannot be read."""

    NO_COMMITTED_OFFSET = "no_committed_offset"
    """Nothing is committed, and results were routed before."""
    UNREADABLE_MARK = "unreadable_mark"
    """The replay mark beside the committed offset is missing or invalid."""
    OFFSET_OUT_OF_RANGE = "offset_out_of_range"
    """The committed offset is behind the end of the partition."""
    UNDECIDABLE_RECORD = "undecidable_record"
    """A record cannot be read, or is of another partition or topic."""
    RESULTS_MISSING = "results_missing"
    """Results are missing whose uploads still exist."""
    WRITE_REFUSED = "write_refused"
    """The brokers refuse what a record becomes."""
    CONSENT_WENT_BACK = "consent_went_back"
    """Consent decisions that had been read are gone; all of the lane's are read again."""
    NOT_PURGED = "not_purged"
    """The brokers refuse to delete below the committed offset: they do not have it."""


FLAGGED = {
    Defect.OFFSET_OUT_OF_RANGE,
    Defect.UNDECIDABLE_RECORD,
    Defect.RESULTS_MISSING,
    Defect.WRITE_REFUSED,
}
"""Defects that committed metadata name: those with a valid mark that a repair may change."""

_FLAG = "!"


class Flagged(NamedTuple):
    """Committed metadata: the defect, if the partition is quarantined, and the metadata itself."""

    defect: Defect | None
    metadata: str

    @classmethod
    def parse(cls, text: str) -> "Flagged":
        """Split committed metadata."""
        flag, separator, metadata = text.partition(" ")
        if not separator or not flag.startswith(_FLAG):
            return cls(None, text)
        try:
            return cls(Defect(flag.removeprefix(_FLAG)), metadata)
        except ValueError:
            return cls(None, text)

    def __str__(self) -> str:
        return self.metadata if self.defect is None else f"{_FLAG}{self.defect} {self.metadata}"


class PartitionBroken(InvariantBroken):
    """An invariant does not hold in one partition: quarantine it and go on with the others."""

    def __init__(self, at: Partition, defect: Defect, detail: str = "", offset: int = -1) -> None:
        """`offset`: where the partition is broken; -1 if that is no single record."""
        self.at = at
        self.defect = defect
        self.offset = offset
        super().__init__(detail or f"{at}: {defect}")
        self.args: tuple[object, ...] = (at, defect, self.detail, offset)


class QuarantineListener(Protocol):
    """Takes reports about quarantined partitions."""

    def quarantined(self, broken: PartitionBroken) -> None:
        """Report a partition that is not read any more."""

    def released(self, at: Partition) -> None:
        """Report that a quarantined partition is read again, or is not this member's any more."""

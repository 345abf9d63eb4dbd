"""Grants that are marked as erased, and whose keys and objects are not known to be deleted.

Read from `erasures.L`, where only the eraser writes: an `ErasureEntry` opens an erasure, and a
`GrantErased` ends it.  So the topic is the list of what is left to do, for the next eraser as well.

Of the same grants, those are *recoverable* whose deleted keys a copy of the vault would still open:
a second `GrantErased` states that the master keys are destroyed, too.
"""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from erasestream.schemas.events.ledger import ErasureEntry, GrantErased
from erasestream.schemas.ids import GrantId
from erasestream.topics.catalog.topic_names import erasures_of, lane_of
from erasestream.topics.consent.ledger_rows import (
    GRANT,
    REST,
    RowKind,
    deleted,
    marked,
    masters,
    row_of,
)
from erasestream.topics.kafka.records import Partition, Record


class UnfinishedErasure(NamedTuple):
    """The entry of a marked grant, and its partition."""

    at: Partition
    entry: ErasureEntry


class DeletedGrant(NamedTuple):
    """A grant whose keys and objects are deleted, and the partition of its entry."""

    at: Partition
    id: bytes
    packed: bytes
    """The entry: 130 bytes, of each grant whose master keys are not destroyed yet."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Versions of the master key under which its keys were wrapped."""
        return masters(self.packed)

    @property
    def entry(self) -> GrantErased:
        """The entry; made from what is kept of it."""
        return deleted(self.id, lane_of(self.at.topic), self.packed)


class UnfinishedErasures:
    """The grants that are left.  Pure."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        """`partitions`: the partition counts by topic."""
        self._partitions = {
            topic: count
            for topic, count in partitions.items()
            if topic == erasures_of(lane_of(topic))
        }
        self._open: dict[bytes, UnfinishedErasure] = {}
        self._recoverable: dict[bytes, DeletedGrant] = {}

    def apply(self, record: Record) -> None:
        """Apply one record; those of other topics, and those elsewhere, are ignored."""
        if record.at.topic in self._partitions:
            self.apply_row(record.at, row_of(record, self._partitions))

    def apply_row(self, at: Partition, row: bytes) -> None:
        """Apply what is kept of a record of this partition."""
        if not row or row[0] == RowKind.DECISION:
            return
        grant, packed = row[GRANT], row[REST]
        match row[0]:
            case RowKind.MARKED if grant not in self._open:
                self._open[grant] = UnfinishedErasure(at, marked(grant, lane_of(at.topic), packed))
            case RowKind.DELETED:
                self._open.pop(grant, None)
                self._recoverable.setdefault(grant, DeletedGrant(at, grant, packed))
            case RowKind.UNRECOVERABLE:
                self._recoverable.pop(grant, None)
            case _:
                pass

    def finish(self, grant: GrantId) -> None:
        """Note that the end of an erasure was acknowledged."""
        self._open.pop(UUID(grant).bytes, None)

    def forget(self, grant: GrantId) -> None:
        """Note that the ledger has a grant's master keys as destroyed."""
        self._recoverable.pop(UUID(grant).bytes, None)

    def recoverable(self) -> list[DeletedGrant]:
        """Return the deleted grants whose master keys are not known to be destroyed."""
        return list(self._recoverable.values())

    def all(self) -> list[UnfinishedErasure]:
        """Return those that are left, the oldest first."""
        return list(self._open.values())

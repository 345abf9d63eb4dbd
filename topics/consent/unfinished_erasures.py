"""Grants that are marked as erased, and whose keys and objects are not known to be deleted.

Read from `erasures.L`, where only the eraser writes: an `ErasureEntry` opens an erasure, and a
`GrantErased` ends it.  So the topic is the list of what is left to do, for the next eraser as well.

Of the same grants, those are *recoverable* whose deleted keys a copy of the vault would still open:
a second `GrantErased` states that the master keys are destroyed, too.
"""

from collections.abc import Mapping
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import ErasureEntry, GrantErased, KeyState
from erasestream.schemas.ids import GrantId
from erasestream.topics.catalog.topic_names import erasures_of, lane_of
from erasestream.topics.consent.ledger_place import belongs
from erasestream.topics.kafka.records import Partition, Record

_EVENTS: tuple[type[ErasureEntry | GrantErased], ...] = (ErasureEntry, GrantErased)


class UnfinishedErasure(NamedTuple):
    """The entry of a marked grant, and its partition."""

    at: Partition
    entry: ErasureEntry


class DeletedGrant(NamedTuple):
    """The entry of a grant whose keys and objects are deleted, and its partition."""

    at: Partition
    entry: GrantErased


class UnfinishedErasures:
    """The grants that are left.  Pure."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        """`partitions`: the partition counts by topic."""
        self._partitions = partitions
        self._topics = {topic for topic in partitions if topic == erasures_of(lane_of(topic))}
        self._open: dict[GrantId, UnfinishedErasure] = {}
        self._recoverable: dict[GrantId, DeletedGrant] = {}

    def apply(self, record: Record) -> None:
        """Apply one record; those of other topics, and those elsewhere, are ignored."""
        if record.at.topic not in self._topics:
            return
        try:
            entry = one_from_wire(_EVENTS, record.headers, record.value)
        except InvalidEvent:
            return
        if not belongs(record, erasures_of(entry.lane), entry.account, self._partitions):
            return
        match entry:
            case ErasureEntry():
                self._open.setdefault(entry.grant, UnfinishedErasure(record.at, entry))
            case GrantErased() if entry.state is KeyState.UNREACHABLE:
                self.finish(entry.grant)
                self._recoverable.setdefault(entry.grant, DeletedGrant(record.at, entry))
            case GrantErased():
                self.forget(entry.grant)

    def finish(self, grant: GrantId) -> None:
        """Note that the end of an erasure was acknowledged."""
        self._open.pop(grant, None)

    def forget(self, grant: GrantId) -> None:
        """Note that the ledger has a grant's master keys as destroyed."""
        self._recoverable.pop(grant, None)

    def recoverable(self) -> list[DeletedGrant]:
        """Return the deleted grants whose master keys are not known to be destroyed."""
        return list(self._recoverable.values())

    def all(self) -> list[UnfinishedErasure]:
        """Return those that are left, the oldest first."""
        return list(self._open.values())

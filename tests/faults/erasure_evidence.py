"""Evidence of a storm of erasures: what owners did, and what is in buckets, topics and log.  Pure.

Collected by `erasure_collector.py`; `erasure_check.py` judges it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from erasestream.pipeline.stages.receipts.leaves import Attested
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import AccountId, GrantId, UploadId
from erasestream.sinks.images.object_names import StoredName
from erasestream.sinks.log.signed_note import PublicKey
from erasestream.topics.kafka.records import Partition


@dataclass
class Account:
    """Fate of an account, as its owner knows it."""

    name: AccountId
    ended: list[GrantId] = field(default_factory=list)
    living: GrantId | None = None
    kept: dict[UploadId, int] = field(default_factory=dict)
    """Size of each upload that was written under the living grant, and is not to be erased."""
    requested: set[UploadId] = field(default_factory=set)
    """Uploads under the living grant that are to be erased."""


class Written(NamedTuple):
    """A picture in `retained`."""

    at: Partition
    offset: int
    picture: tuple[GrantId, UploadId, Part]


class SinkKill(NamedTuple):
    """A kill of a sink, and what it had committed of its partitions until then."""

    time: datetime
    committed: Mapping[Partition, int]


@dataclass(frozen=True, kw_only=True)
class ErasureEvidence:
    """All that is known once the storm is over."""

    accounts: Sequence[Account]
    written: Sequence[Written]
    sink_kills: Sequence[SinkKill]
    objects: Sequence[StoredName]
    """Objects in the end."""
    opened: Mapping[StoredName, bytes]
    """SHA-256 of each picture that opened in the end."""
    keys: Counter[GrantId]
    """Number of keys in the end."""
    created: Mapping[StoredName, AbstractSet[datetime]]
    """Times at which each object was created that any listing had."""
    last_seen: Mapping[str, datetime]
    """By grant, and by upload: the beginning of the last listing that had a key or object."""
    requests: Mapping[str, UploadId]
    """Requests to erase uploads, by their ids."""
    attested: Mapping[AccountId, Sequence[Attested]]
    """Leaves of the ledger's entries about each account."""
    leaves: Sequence[bytes]
    """Leaves of the log."""
    receipts: Mapping[str, bytes]
    """Receipts that were issued, by their ids."""
    refused: Counter[str]
    """Sentences with which the auditor refused to cosign."""
    log_key: PublicKey
    auditor_key: PublicKey

    def last_stored(self) -> dict[str, datetime]:
        """Return when the last object was created, by grant and by upload."""
        latest: dict[str, datetime] = {}
        for name, times in self.created.items():
            for what in (name.grant, name.upload_id):
                latest[what] = max(*times, latest.get(what, min(times)))
        return latest

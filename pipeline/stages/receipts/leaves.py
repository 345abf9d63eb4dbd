"""The leaf of each entry of the ledgers that a receipt is about.  Pure.

=====================  ==========================  ================================================
entry                  believed in                 leaf
=====================  ==========================  ================================================
decision               `ledger.L`, in its place    consent: recorded when the brokers appended it
grant erased           `erasures.L`, in its place  erasure, and unrecoverable: the eraser alone can
                                                   write there
upload erased          `erasures.L`, in its place  upload_erasure, once it is gone
key destroyed          `ledger`                    epoch_key; a lane cannot write there
master destroyed       `ledger`                    master
=====================  ==========================  ================================================

Everything else has no leaf.  A decision's id is its lane's to choose, so that receipts have ids
that no lane can choose for another.
"""

from collections.abc import Mapping
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    GrantErased,
    KeyDestroyed,
    KeyState,
    MasterDestroyed,
    UploadErased,
    UploadErasureState,
)
from erasestream.schemas.events.receipts import (
    ConsentLeaf,
    EpochKeyLeaf,
    ErasureLeaf,
    Leaf,
    MasterLeaf,
    Receipts,
    Subject,
    UnrecoverableLeaf,
    UploadErasureLeaf,
)
from erasestream.schemas.ids import AccountId, grant_id
from erasestream.topics.catalog.topic_names import LEDGER, erasures_of, ledger_of
from erasestream.topics.consent.ledger_place import belongs
from erasestream.topics.kafka.records import Record

_EVENTS = (DecisionEntry, GrantErased, UploadErased, KeyDestroyed, MasterDestroyed)


class Attested(NamedTuple):
    """A leaf, and whose it is."""

    leaf: Leaf
    subject: Subject | None = None


class LeafBuilder:
    """Builds leaves; `partitions` are the partition counts of the lanes' ledgers and erasures."""

    def __init__(self, *, receipts: Receipts, partitions: Mapping[str, int], software: str) -> None:
        self._receipts = receipts
        self._partitions = partitions
        self._software = software

    def build(self, record: Record) -> Attested | None:
        """Return the leaf of a record; None if it has none."""
        try:
            entry = one_from_wire(_EVENTS, record.headers, record.value)
        except InvalidEvent:
            return None
        match entry:
            case DecisionEntry() if self._is_placed(record, ledger_of(entry.lane), entry.account):
                return self._consent(entry, record)
            case GrantErased() | UploadErased() if self._is_placed(
                record, erasures_of(entry.lane), entry.account
            ):
                return self._in_erasures(entry)
            case KeyDestroyed() if record.at.topic == LEDGER:
                return Attested(self._key(entry))
            case MasterDestroyed() if record.at.topic == LEDGER:
                return Attested(self._master(entry))
            case _:
                return None

    def _is_placed(self, record: Record, topic: str, account: AccountId) -> bool:
        return topic in self._partitions and belongs(record, topic, account, self._partitions)

    def _in_erasures(self, entry: GrantErased | UploadErased) -> Attested | None:
        if isinstance(entry, UploadErased):
            return self._upload_erased(entry)
        return self._erased(entry)

    def _consent(self, entry: DecisionEntry, record: Record) -> Attested:
        subject = Subject(entry.lane, entry.account, entry.id)
        receipt_id = self._receipts.id("consent", subject)
        is_grant = entry.decision is Decision.GRANTED
        leaf = ConsentLeaf(
            id=receipt_id,
            software=self._software,
            subject=self._receipts.commitment(receipt_id, subject),
            decision=entry.decision,
            grant=grant_id(*subject) if is_grant else None,
            recorded=utc(record.appended_ms),
        )
        return Attested(leaf, subject)

    def _erased(self, entry: GrantErased) -> Attested:
        subject = Subject(entry.lane, entry.account, entry.grant)
        decision = Subject(entry.lane, entry.account, entry.decision)
        erasure = self._receipts.id("erasure", subject)
        if entry.state is KeyState.UNREACHABLE:
            leaf = ErasureLeaf(
                id=erasure,
                software=self._software,
                subject=self._receipts.commitment(erasure, subject),
                grant=entry.grant,
                decision=self._receipts.id("consent", decision),
                objects=entry.objects,
                objects_root=entry.objects_root,
                keys=entry.keys,
                recorded=entry.recorded,
                confirmed=entry.confirmed,
                unreachable=entry.time,
            )
            return Attested(leaf, subject)
        receipt_id = self._receipts.id("unrecoverable", subject)
        later = UnrecoverableLeaf(
            id=receipt_id,
            software=self._software,
            subject=self._receipts.commitment(receipt_id, subject),
            grant=entry.grant,
            erasure=erasure,
            keys=entry.keys,
            topics_worthless=entry.topics_worthless,
            unrecoverable=entry.time,
        )
        return Attested(later, subject)

    def _upload_erased(self, entry: UploadErased) -> Attested | None:
        if entry.state is not UploadErasureState.GONE:
            return None
        subject = Subject(entry.lane, entry.account, entry.request)
        receipt_id = self._receipts.id("upload_erasure", subject)
        leaf = UploadErasureLeaf(
            id=receipt_id,
            software=self._software,
            subject=self._receipts.commitment(receipt_id, subject),
            stored_as=entry.stored_as,
            objects=entry.objects,
            objects_root=entry.objects_root,
            recorded=entry.recorded,
            confirmed=entry.confirmed,
            gone=entry.time,
        )
        return Attested(leaf, subject)

    def _key(self, entry: KeyDestroyed) -> EpochKeyLeaf:
        return EpochKeyLeaf(
            id=entry.id,
            software=self._software,
            purpose=entry.purpose,
            epoch=entry.epoch,
            public_key_sha256=entry.public_key_sha256,
            state=entry.state,
            seen=entry.time,
        )

    def _master(self, entry: MasterDestroyed) -> MasterLeaf:
        return MasterLeaf(
            id=entry.id, software=self._software, master=entry.master, seen=entry.time
        )

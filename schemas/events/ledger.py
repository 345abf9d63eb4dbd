"""Ledger entries: every decision, erasure, finding, repair and destroyed key.

The ledger is append-only and permanent.  As the proof of the owners' decisions it names accounts
by lane and opaque id; it never contains an image.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from erasestream.schemas.events.base import PositionField, Sha256, Text, TimedEvent
from erasestream.schemas.events.consent import Channel, Decision, NoticeField
from erasestream.schemas.ids import (
    UUID_PATTERN,
    AccountField,
    GrantIdField,
    LaneField,
    UploadIdField,
)

Actor = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]


class DecisionEntry(TimedEvent):
    """A consent decision; `id` is the id of the decision."""

    type: ClassVar[str] = "com.backgrounderase.ledger.decision.v1"
    body: ClassVar[frozenset[str] | None] = frozenset(
        {"decision", "actor", "channel", "notice", "closes"}
    )

    lane: LaneField
    account: AccountField
    decision: Decision
    actor: Actor
    channel: Channel
    notice: NoticeField | None = None
    closes: Literal[True] | None = None
    """Set if the owner has closed the account with this revocation: no grant after it counts."""

    @property
    def is_closing(self) -> bool:
        """Whether this decision closes the account, for good: its owner's alone."""
        is_revocation = self.decision is Decision.REVOKED and not self.is_operators_revocation
        return self.closes is True and is_revocation

    @property
    def is_operators_revocation(self) -> bool:
        """Whether this is the eraser's entry of a revocation in `revocations.L`.

        Such a revocation ends grants by their time, not by the order of entries.
        """
        return self.channel is Channel.OPERATOR and self.decision is Decision.REVOKED


class ErasureEntry(TimedEvent):
    """The vault holds the erasure marker of this grant: nothing is retained under it any more."""

    type: ClassVar[str] = "com.backgrounderase.ledger.erasure.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"grant", "decision", "recorded"})

    lane: LaneField
    account: AccountField
    grant: GrantIdField
    decision: Annotated[str, StringConstraints(pattern=UUID_PATTERN)] | None = None
    """The decision that ended the grant; earlier versions did not name it."""
    recorded: AwareDatetime | None = None
    """When the brokers had the decision."""


class FindingKind(StrEnum):
    """Problems that do not stop the pipeline."""

    CONSENT_IN_WRONG_PARTITION = "consent_in_wrong_partition"
    CONSENT_UNREADABLE = "consent_unreadable"
    CONSENT_BY_OPERATOR = "consent_by_operator"
    CONSENT_NOT_IN_LEDGER = "consent_not_in_ledger"
    UPLOADS_PURGED_UNPROCESSED = "uploads_purged_unprocessed"
    RESULTS_PURGED_UNROUTED = "results_purged_unrouted"
    RETAINED_IMAGES_EXPIRED = "retained_images_expired"
    RETAINED_IMAGES_PURGED = "retained_images_purged"
    PARTITION_QUARANTINED = "partition_quarantined"


class Finding(TimedEvent):
    """A problem, and what was done about it."""

    type: ClassVar[str] = "com.backgrounderase.ledger.finding.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"kind", "detail"})

    kind: FindingKind
    detail: Annotated[str, StringConstraints(max_length=600)]
    """Room for a position and the id of an upload, of 255 characters."""


class Repair(TimedEvent):
    """A repair by a person, with an explicit command."""

    type: ClassVar[str] = "com.backgrounderase.ledger.repair.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"command", "detail", "actor"})

    command: Text
    detail: Text
    actor: Text


class KeyState(StrEnum):
    """End of a key of an epoch, in two steps."""

    UNREACHABLE = "unreachable"
    """Deleted from the vault, its absence verified, and dead by every clock of the installation."""
    UNRECOVERABLE = "unrecoverable"
    """The master key that wrapped it is destroyed too: a copy of the vault is worthless."""


class KeyDestroyed(TimedEvent):
    """The private key of an epoch is destroyed; one entry for each state, once it is true.

    `time` is when the state was verified.  Replicas may both write an entry, with the same `id`.
    """

    type: ClassVar[str] = "com.backgrounderase.ledger.key-destroyed.v1"
    body: ClassVar[frozenset[str] | None] = frozenset(
        {"purpose", "epoch", "public_key_sha256", "state"}
    )

    purpose: Text
    epoch: Annotated[int, Field(ge=0)]
    public_key_sha256: Sha256
    state: KeyState


MASTER_NAME_PATTERN = r"^[A-Za-z0-9_.:/-]{1,255}$"
MasterName = Annotated[str, StringConstraints(pattern=MASTER_NAME_PATTERN)]
"""Version of the grants' master key, as its keyring names it."""
MAX_MASTERS = 16
"""Versions that an entry lists.  A grant has one key, and up to three while rotation moves it."""
MAX_MASTERS_READ = 64
"""Versions in an entry of an earlier version."""
OTHERS = "..."
"""Stands for versions that are not listed.  No version has this name, so none is destroyed."""


class GrantErased(TimedEvent):
    """All that was retained under a grant is deleted; one entry for each state, once it is true.

    `time` is when the state was verified.  It follows the grant's `ErasureEntry`, in `erasures.L`.
    """

    type: ClassVar[str] = "com.backgrounderase.ledger.grant-erased.v1"
    body: ClassVar[frozenset[str] | None] = frozenset(
        {"grant", "decision", "recorded", "confirmed", "objects", "objects_root", "keys", "state"}
        | {"topics_worthless"}
    )

    lane: LaneField
    account: AccountField
    grant: GrantIdField
    decision: Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
    """The decision that ended the grant."""
    recorded: AwareDatetime
    """When the brokers had the decision."""
    confirmed: AwareDatetime
    """When the vault had the erasure marker."""
    objects: Annotated[int, Field(ge=0)]
    objects_root: Sha256
    """Merkle root (RFC 6962) over the SHA-256 of each object's name, in ascending order."""
    keys: Annotated[tuple[MasterName, ...], Field(max_length=MAX_MASTERS_READ)]
    """Versions of the master key under which the grant's keys were wrapped, or `OTHERS`."""
    state: KeyState
    topics_worthless: AwareDatetime | None = None
    """When the keys were seen destroyed that opened the last copy in a topic, if that is known; in
    the entry of state unrecoverable."""


class ErasureProgress(TimedEvent):
    """The keys of a grant, and some of its objects, are deleted; `GrantErased` follows the last.

    Written now and then.  A sink that is still storing may add objects to both numbers.
    """

    type: ClassVar[str] = "com.backgrounderase.ledger.erasure-progress.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"grant", "deleted", "left"})

    lane: LaneField
    account: AccountField
    grant: GrantIdField
    deleted: Annotated[int, Field(ge=0)]
    """Number of objects that are deleted."""
    left: Annotated[int, Field(ge=0)]
    """Number of objects that are not deleted yet."""


class UploadErasureRequested(TimedEvent):
    """An owner asks to erase what is kept of one upload; `id` is the id of the request."""

    type: ClassVar[str] = "com.backgrounderase.ledger.upload-erasure-requested.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"upload", "actor", "channel"})

    lane: LaneField
    account: AccountField
    upload: UploadIdField
    actor: Actor
    channel: Channel


class UploadErasureState(StrEnum):
    """How far the erasure of an upload is."""

    CONFIRMED = "confirmed"
    """The vault has its tombstone: nothing of it is kept any more, and what was kept is deleted."""
    GONE = "gone"
    """A look after the last put that could begin before that found nothing."""


class UploadErased(TimedEvent):
    """All that was kept of an upload is deleted; one entry for each state, once it is true.

    `time` is when the state was verified.  It follows the request, in `erasures.L`.
    """

    type: ClassVar[str] = "com.backgrounderase.ledger.upload-erased.v1"
    body: ClassVar[frozenset[str] | None] = frozenset(
        {"upload", "request", "recorded", "confirmed", "stored_as"}
        | {"objects", "objects_root", "state"}
    )

    lane: LaneField
    account: AccountField
    upload: UploadIdField
    request: Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
    recorded: AwareDatetime
    """When the brokers had the request."""
    confirmed: AwareDatetime | None = None
    """Time of the entry `confirmed`, the last one if there are several; in both entries.  Earlier
    versions did not write it."""
    stored_as: Sha256
    """SHA-256 of the upload's tombstone's name: names no one, and the auditor can compare it."""
    objects: Annotated[int, Field(ge=0)]
    objects_root: Sha256
    """Merkle root (RFC 6962) over the SHA-256 of each object's name, in ascending order."""
    state: UploadErasureState


class UploadHeld(TimedEvent):
    """An upload is retained: its photo and its cut-out are handed to the encryption sink.

    The router writes it together with them.  It has no image, and no id of an upload.  `image` is
    the upload's key (`ids.image_key`), by which one that is erased alone is no longer counted;
    earlier versions did not write it.
    """

    type: ClassVar[str] = "com.backgrounderase.ledger.upload-held.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"grant", "position", "uploaded_at", "image"})

    lane: LaneField
    account: AccountField
    grant: GrantIdField
    position: PositionField
    """Position of the upload, by which one that is routed again is counted once."""
    uploaded_at: AwareDatetime
    image: Annotated[str, StringConstraints(pattern=UUID_PATTERN)] | None = None


MAX_RECEIPT = 12_000
"""Characters.  The longest receipt has `MAX_MASTERS` names of 255, which with the rest of the leaf
and the owner's part are 6,900 in Base64; a path of 63 hashes is 2,800, and a checkpoint with its
two signatures and names of 200 is 1,000.
"""


class ReceiptIssued(TimedEvent):
    """A receipt from the transparency log, as its owner keeps it; `id` is the receipt's.

    `attest` writes it once the auditor has cosigned its leaf.
    """

    type: ClassVar[str] = "com.backgrounderase.ledger.receipt-issued.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"kind", "about", "receipt"})

    lane: LaneField
    account: AccountField
    kind: Text
    """Kind of the leaf, such as consent or erasure."""
    about: Text
    """The decision, or what was erased: a grant, or an upload."""
    receipt: Annotated[str, StringConstraints(max_length=MAX_RECEIPT)]
    """The file (C2SP tlog-proof), with the salt that shows whose it is."""


class MasterDestroyed(TimedEvent):
    """A version of the grants' master key was seen destroyed, at `time`."""

    type: ClassVar[str] = "com.backgrounderase.ledger.master-destroyed.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"master"})

    master: MasterName

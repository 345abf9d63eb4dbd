"""Leaves of the transparency log, and what only a customer's receipt adds to them.  Pure.

A leaf is canonical JSON (RFC 8785): text, whole numbers, lists and objects with names in ASCII.
Nothing in it identifies a person.  It commits to lane, account and decision under a salt, which
is in the receipt alone.  The id of a decision is in no leaf either: a grant's id derives from
it and from the account (`ids.grant_id`), so that a reader of both could try accounts.

An instance is a statement about what was seen at the times that it names, and about nothing else.
"""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from erasestream.schemas.errors import ProofRefused
from erasestream.schemas.events.base import Sha256, Text
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.ledger import KeyState
from erasestream.schemas.ids import (
    UUID_PATTERN,
    AccountId,
    GrantIdField,
    Lane,
    derived_uuid,
)

SALT_BYTES = 32
NOT_CLAIMED = (
    "copies that the storage provider keeps in backups of its own",
    "memory of processes that have ended since",
)
"""Limits of every receipt."""


def _utc_text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[AwareDatetime, PlainSerializer(_utc_text, return_type=str)]
ReceiptId = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


class _Leaf(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True
    )

    version: Literal[1] = 1
    id: ReceiptId
    software: Text
    """Version of the software that wrote it."""
    not_claimed: tuple[Text, ...] = NOT_CLAIMED

    def encode(self) -> bytes:
        """Return the leaf as canonical JSON."""
        return canonical_json(self.model_dump(mode="json", exclude_none=True))


class ConsentLeaf(_Leaf):
    """The ledger has this decision since `recorded`."""

    kind: Literal["consent"] = "consent"
    subject: Sha256
    decision: Decision
    grant: GrantIdField | None = None
    """The grant that the decision made."""
    recorded: Time


class ErasureLeaf(_Leaf):
    """All keys and objects of a grant were deleted, and their absence was seen."""

    kind: Literal["erasure"] = "erasure"
    subject: Sha256
    grant: GrantIdField
    decision: ReceiptId
    """Receipt of the decision that ended the grant."""
    objects: Count
    objects_root: Sha256
    """Merkle root (RFC 6962) over the SHA-256 of each object's name, in ascending order."""
    keys: tuple[Text, ...]
    """Master keys under which the grant's deleted keys were wrapped."""
    recorded: Time
    confirmed: Time
    unreachable: Time


class UploadErasureLeaf(_Leaf):
    """All that was kept of an upload was deleted, and its absence was seen."""

    kind: Literal["upload_erasure"] = "upload_erasure"
    subject: Sha256
    stored_as: Sha256
    """SHA-256 of the name of the upload's tombstone."""
    objects: Count
    objects_root: Sha256
    """Merkle root (RFC 6962) over the SHA-256 of each object's name, in ascending order."""
    recorded: Time
    confirmed: Time | None = None
    """When its tombstone was seen in the vault; earlier versions did not write it."""
    gone: Time


class UnrecoverableLeaf(_Leaf):
    """The master keys are destroyed, too, under which the grant's keys were wrapped."""

    kind: Literal["unrecoverable"] = "unrecoverable"
    subject: Sha256
    grant: GrantIdField
    erasure: ReceiptId
    keys: tuple[Text, ...]
    topics_worthless: Time | None = None
    """When the keys were seen destroyed that opened the last copy in a topic, if that is known."""
    unrecoverable: Time


class EpochKeyLeaf(_Leaf):
    """The private key of an epoch is destroyed."""

    kind: Literal["epoch_key"] = "epoch_key"
    purpose: Text
    epoch: Count
    public_key_sha256: Sha256
    state: KeyState
    seen: Time


class MasterLeaf(_Leaf):
    """A version of a master key was seen destroyed."""

    kind: Literal["master"] = "master"
    master: Text
    seen: Time


Leaf = ConsentLeaf | ErasureLeaf | UploadErasureLeaf | UnrecoverableLeaf | EpochKeyLeaf | MasterLeaf
_LEAF: TypeAdapter[Leaf] = TypeAdapter(Annotated[Leaf, Field(discriminator="kind")])


def decode_leaf(raw: bytes) -> Leaf:
    """Return a leaf of a log.  Raises `ProofRefused` for anything but canonical JSON of a leaf."""
    try:
        members = json.loads(raw)
        leaf = _LEAF.validate_python(members)
        is_canonical = canonical_json(members) == raw
    except (ValueError, RecursionError, ValidationError):
        raise ProofRefused("the leaf is not one that this version can read") from None
    if not is_canonical:
        raise ProofRefused("the leaf is not canonical")
    return leaf


class Subject(NamedTuple):
    """Lane, account, and id of the decision, grant or request that a leaf commits to."""

    lane: Lane
    account: AccountId
    about: str

    def commitment(self, salt: bytes) -> str:
        """Return the commitment, which neither shows the subject nor fits another."""
        if len(salt) != SALT_BYTES:
            raise ProofRefused("the salt is malformed")
        members = canonical_json(list(self))
        return hashlib.sha256(b"erasestream/v1/subject\0" + salt + members).hexdigest()


class Receipts:
    """Ids and salts of receipts, from a secret key: the same for all that write receipts."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def id(self, kind: str, subject: Subject) -> str:
        """Return the id of the receipt about this, which without the key shows nothing."""
        return derived_uuid(self._digest(b"id", canonical_json([kind, *subject])))

    def salt(self, receipt_id: str) -> bytes:
        """Return the salt of a receipt."""
        return self._digest(b"salt", receipt_id.encode())

    def commitment(self, receipt_id: str, subject: Subject) -> str:
        """Return the commitment of a receipt's leaf."""
        return subject.commitment(self.salt(receipt_id))

    def _digest(self, purpose: bytes, message: bytes) -> bytes:
        return hmac.digest(self._key, b"erasestream/v1/" + purpose + b"\0" + message, "sha256")


class ReceiptExtra(BaseModel):
    """The content of a receipt beside its proof: the leaf, and the owner's part if it has one."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True
    )

    leaf: str
    lane: str | None = None
    account: str | None = None
    about: str | None = None
    salt: str | None = None

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Parse the extra data of a file.  Raises `ProofRefused`."""
        try:
            return cls.model_validate_json(raw)
        except ValidationError:
            raise ProofRefused("the receipt has no leaf") from None

    def encode(self) -> bytes:
        """Return the extra data for a file."""
        return canonical_json(self.model_dump(exclude_none=True))

    def check(self, leaf: Leaf) -> None:
        """Compare the owner's part with the leaf.  Raises `ProofRefused`."""
        committed = getattr(leaf, "subject", None)
        if committed is None:
            if (self.lane, self.account, self.about, self.salt) != (None,) * 4:
                raise ProofRefused("the receipt names an owner, and its leaf has none")
            return
        if None in {self.lane, self.account, self.about, self.salt}:
            raise ProofRefused("the receipt does not say whose it is")
        subject = Subject(Lane(str(self.lane)), AccountId(str(self.account)), str(self.about))
        try:
            salt = bytes.fromhex(str(self.salt))
        except ValueError:
            salt = b""
        if not hmac.compare_digest(subject.commitment(salt), committed):
            raise ProofRefused("lane, account or salt are not those of the leaf")


def canonical_json(value: Any) -> bytes:
    """Encode as RFC 8785 demands, of what leaves consist of.

    Raises `ValueError` for a float, a number beyond 2**53, and a name outside ASCII.
    """
    _check(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _check(value: Any) -> None:
    match value:
        case dict():
            for name, member in value.items():
                if not (isinstance(name, str) and name.isascii()):
                    raise ValueError("a name that is not ASCII")
                _check(member)
        case list() | tuple():
            for member in value:
                _check(member)
        case None | bool() | str():
            return
        case int() if abs(value) < 2**53:
            return
        case _:
            raise ValueError("neither text nor a whole number below 2**53")

"""Recipients of a sealed picture: who can open its data key.

Each recipient has one block in the envelope's header, with the data key encrypted for it alone.
`ENVELOPE.md` beside this module is normative.

* A *grant*: AES-256-GCM under a key from the grant's key.  It binds the context and the name of the
  object, so that a block fits no other record and no other object.
* An *epoch*: HPKE (RFC 9180) in base mode to the X25519 key of a purpose and an epoch.  Its info
  binds purpose, epoch and context.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple, Protocol, Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from erasestream.schemas.errors import InvariantBroken, SealBroken
from erasestream.schemas.ids import GrantId, is_uuid

KEY_BYTES = 32
"""Bytes of a data key, and of a grant's key."""
TAG_BYTES = 16
SALT_BYTES = 32
ENCAPSULATED_BYTES = 32
MAX_NAME_BYTES = 1024
"""Google Cloud Storage's own limit for an object's name, in bytes of UTF-8."""
MAX_PURPOSE_BYTES = 64
PURPOSE = re.compile(rf"[a-z0-9][a-z0-9.-]{{0,{MAX_PURPOSE_BYTES - 1}}}")
EPOCH_BYTES = 8
ZERO_NONCE = bytes(12)
"""Every AES-GCM key here encrypts exactly once."""
HPKE_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

GRANT_INFO = b"erasestream/v2/grant"
EPOCH_INFO = b"erasestream/v2/epoch"

Random = Callable[[int], bytes]
_ANY_KEY = X25519PrivateKey.from_private_bytes(bytes(31) + b"\1")


def is_public_key(raw: bytes) -> bool:
    """Return whether this is a raw public key, and none of low order.

    For one of those the shared secret is zero: the library refuses to seal.
    """
    try:
        _ANY_KEY.exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError:
        return False
    return True


class Block(NamedTuple):
    """The block of one recipient: its kind, who it is, and the encrypted data key."""

    kind: int
    identity: bytes
    encrypted: bytes

    @property
    def raw(self) -> bytes:
        """The block as in the header."""
        value = self.identity + self.encrypted
        return bytes([self.kind]) + len(value).to_bytes(2, "big") + value

    @property
    def epoch(self) -> "Epoch | None":
        """The epoch whose key opens the block; None for a grant."""
        if self.kind != EpochRecipient.KIND:
            return None
        return _epoch_of(self.identity)

    @classmethod
    def parse(cls, kind: int, value: bytes) -> Self:
        """Parse a block's value.  Raises `SealBroken` unless it is canonical."""
        if kind == GrantRecipient.KIND and len(value) == GRANT_BYTES:
            return cls(kind, value[:16], value[16:])
        if kind == EpochRecipient.KIND and value:
            end = 1 + value[0] + EPOCH_BYTES
            purpose = value[1 : end - EPOCH_BYTES].decode("ascii", "replace")
            if len(value) == end + EPOCH_ENCRYPTED_BYTES and PURPOSE.fullmatch(purpose):
                return cls(kind, value[:end], value[end:])
        raise SealBroken


GRANT_BYTES = 16 + SALT_BYTES + KEY_BYTES + TAG_BYTES
EPOCH_ENCRYPTED_BYTES = ENCAPSULATED_BYTES + KEY_BYTES + TAG_BYTES
MAX_BLOCK_BYTES = 3 + max(GRANT_BYTES, 1 + MAX_PURPOSE_BYTES + EPOCH_BYTES + EPOCH_ENCRYPTED_BYTES)


class Recipient(Protocol):
    """Anyone for whom a data key can be encrypted."""

    def encrypt(self, data_key: bytes, context: bytes) -> Block:
        """Return the block of this recipient."""


class Opener(Protocol):
    """Anyone who can decrypt the data key of a block."""

    @property
    def kind(self) -> int:
        """The kind of the block."""

    @property
    def identity(self) -> bytes:
        """The identity in the block."""

    def decrypt(self, block: Block, context: bytes) -> bytes:
        """Return the data key.  Raises `SealBroken`."""


@dataclass(frozen=True)
class GrantRecipient:
    """A grant and its key, for the object of this name; it encrypts and opens."""

    KIND: ClassVar[int] = 1

    grant: GrantId
    key: bytes
    name: str
    random: Random = secrets.token_bytes

    def __post_init__(self) -> None:
        if not (is_uuid(self.grant) and 0 < len(self.name.encode()) <= MAX_NAME_BYTES):
            raise InvariantBroken("grant or name cannot be sealed")
        if len(self.key) != KEY_BYTES:
            raise InvariantBroken(f"a grant's key has {KEY_BYTES} bytes")

    @property
    def kind(self) -> int:
        """The kind of the block."""
        return self.KIND

    @property
    def identity(self) -> bytes:
        """The grant's UUID."""
        return UUID(self.grant).bytes

    def encrypt(self, data_key: bytes, context: bytes) -> Block:
        """Return the grant's block; `random` is called once, for the salt."""
        salt = self.random(SALT_BYTES)
        if len(salt) != SALT_BYTES:
            raise InvariantBroken("the source of random bytes is broken")
        wrapped = self._cipher(salt).encrypt(ZERO_NONCE, data_key, self._bound(context))
        return Block(self.kind, self.identity, salt + wrapped)

    def decrypt(self, block: Block, context: bytes) -> bytes:
        """Return the data key.  Raises `SealBroken`."""
        salt, wrapped = block.encrypted[:SALT_BYTES], block.encrypted[SALT_BYTES:]
        try:
            return self._cipher(salt).decrypt(ZERO_NONCE, wrapped, self._bound(context))
        except InvalidTag:
            raise SealBroken from None

    def _bound(self, context: bytes) -> bytes:
        return self.identity + hashlib.sha256(context).digest() + self.name.encode()

    def _cipher(self, salt: bytes) -> AESGCM:
        hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=GRANT_INFO)
        return AESGCM(hkdf.derive(self.key))


@dataclass(frozen=True)
class Epoch:
    """A purpose and the number of an epoch."""

    purpose: str
    number: int

    def __post_init__(self) -> None:
        if not (PURPOSE.fullmatch(self.purpose) and 0 <= self.number < 1 << 8 * EPOCH_BYTES):
            raise InvariantBroken("purpose or epoch cannot be sealed")

    @property
    def identity(self) -> bytes:
        """Purpose and number, as in a block."""
        purpose = self.purpose.encode()
        return bytes([len(purpose)]) + purpose + self.number.to_bytes(EPOCH_BYTES, "big")

    def info(self, context: bytes) -> bytes:
        """Return the HPKE info that binds purpose, epoch and context."""
        return EPOCH_INFO + self.identity + hashlib.sha256(context).digest()


@lru_cache(maxsize=64)  # records of few epochs follow each other
def _epoch_of(identity: bytes) -> Epoch:
    purpose, number = identity[1:-EPOCH_BYTES], identity[-EPOCH_BYTES:]
    return Epoch(purpose.decode(), int.from_bytes(number, "big"))


@dataclass(frozen=True)
class EpochRecipient:
    """The public key of an epoch."""

    KIND: ClassVar[int] = 2

    epoch: Epoch
    key: X25519PublicKey

    @classmethod
    def of(cls, epoch: Epoch, raw: bytes) -> Self:
        """Return the recipient with the raw public key."""
        return cls(epoch, X25519PublicKey.from_public_bytes(raw))

    def encrypt(self, data_key: bytes, context: bytes) -> Block:
        """Return the epoch's block; the library draws the random bytes."""
        encrypted = HPKE_SUITE.encrypt(data_key, self.key, self.epoch.info(context))
        return Block(self.KIND, self.epoch.identity, encrypted)


@dataclass(frozen=True)
class EpochOpener:
    """The private key of an epoch."""

    epoch: Epoch
    key: X25519PrivateKey

    @classmethod
    def of(cls, epoch: Epoch, raw: bytes) -> Self:
        """Return the opener with the raw private key."""
        return cls(epoch, X25519PrivateKey.from_private_bytes(raw))

    @property
    def kind(self) -> int:
        """The kind of the block."""
        return EpochRecipient.KIND

    @property
    def identity(self) -> bytes:
        """Purpose and number, as in the block."""
        return self.epoch.identity

    def decrypt(self, block: Block, context: bytes) -> bytes:
        """Return the data key.  Raises `SealBroken`."""
        try:
            return HPKE_SUITE.decrypt(block.encrypted, self.key, self.epoch.info(context))
        except (InvalidTag, ValueError):
            raise SealBroken from None

"""Seal a picture so that only its grant's key opens it, and only under its own metadata.

Format ESV1; `ENVELOPE.md` beside this module is normative, `vectors/` proves it.  Pure: no
I/O and no clock; random bytes come from the caller's source.

Rules, all of them, in the order in which opening applies them:

* Lengths are bounded before they are used, and anything not canonical is refused.
* Name, grant and part must be those that the *caller* asked for, never those in the object.
* The data key is unwrapped, then the key commitment is compared in constant time; only
  then is anything decrypted.  An object therefore opens under exactly one key.
* One error, `SealBroken`, for every cause.

Every AES-GCM key encrypts exactly once, so the nonce is zero: the wrapping key and the body
key are both derived from a fresh salt, the body key from a fresh data key as well.  There is
no limit of 2^32 messages per grant.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from erasestream.schemas.errors import InvariantBroken, SealBroken
from erasestream.schemas.events.base import CONTENT_TYPE_PATTERN
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, Part
from erasestream.schemas.ids import GrantId, is_uuid
from erasestream.sinks.keys.keyring import KEY_BYTES

MAGIC = b"ESV1"
SUITE = 1
SALT_BYTES = 32
TAG_BYTES = 16
WRAPPED_BYTES = KEY_BYTES + TAG_BYTES
COMMITMENT_BYTES = 32
MAX_CONTENT_TYPE_BYTES = 128
MAX_NAME_BYTES = 1024
"""Google Cloud Storage's own limit for an object's name, in bytes of UTF-8."""

PREFIX_BYTES = len(MAGIC) + 1 + 16 + 1
MAX_HEADER_BYTES = (
    PREFIX_BYTES + 2 + MAX_CONTENT_TYPE_BYTES + 2 + MAX_NAME_BYTES + SALT_BYTES + WRAPPED_BYTES
)
MAX_PLAINTEXT_BYTES = MAX_CUTOUT_BYTES
MAX_SEALED_BYTES = MAX_HEADER_BYTES + COMMITMENT_BYTES + MAX_PLAINTEXT_BYTES + TAG_BYTES
"""Largest sealed object, in bytes: a store must accept it, a reader must bound it."""

WRAP_INFO = b"erasestream/v1/wrap"
BODY_INFO = b"erasestream/v1/body"
ZERO_NONCE = bytes(12)
PARTS = {Part.ORIGINAL: b"\x01", Part.CUTOUT: b"\x02"}

Random = Callable[[int], bytes]


class Opened(NamedTuple):
    """A picture that was sealed: its content type and bytes."""

    content_type: str
    plaintext: bytes


class _Header(NamedTuple):
    content_type: str
    bound: bytes  # the header before `wrapped`: authenticated by the wrapping
    salt: bytes
    wrapped: bytes

    @property
    def raw(self) -> bytes:
        return self.bound + self.wrapped


def seal(
    plaintext: bytes,
    *,
    grant_key: bytes,
    grant: GrantId,
    part: Part,
    content_type: str,
    name: str,
    random: Random = os.urandom,
) -> bytes:
    """Return the sealed object of a picture, to be stored under `name`.

    `random` is called twice: for the salt, then for the data key, 32 bytes each.
    Raises `InvariantBroken` if a value is outside the bounds of the format.
    """
    salt, data_key = random(SALT_BYTES), random(KEY_BYTES)
    if len(plaintext) > MAX_PLAINTEXT_BYTES or len(salt + data_key) != SALT_BYTES + KEY_BYTES:
        raise InvariantBroken("the picture is too large, or the source of random bytes is broken")
    bound = _bound(grant, part, content_type, name) + salt
    wrapped = _wrapping(grant_key, salt).encrypt(ZERO_NONCE, data_key, bound)
    header = bound + wrapped
    body_key, commitment = _body_keys(data_key, salt, header)
    aad = header + commitment
    return b"".join((aad, AESGCM(body_key).encrypt(ZERO_NONCE, plaintext, aad)))


def open_sealed(
    sealed: bytes, *, grant_key: bytes, grant: GrantId, part: Part, name: str
) -> Opened:
    """Open an object of this grant, part and name.  Raises `SealBroken` for anything else."""
    if not is_uuid(grant):
        raise SealBroken
    header = _parse(sealed, grant, part, name)
    try:
        data_key = _wrapping(grant_key, header.salt).decrypt(
            ZERO_NONCE, header.wrapped, header.bound
        )
        body_key, commitment = _body_keys(data_key, header.salt, header.raw)
        start = len(header.raw) + COMMITMENT_BYTES
        if not hmac.compare_digest(commitment, sealed[start - COMMITMENT_BYTES : start]):
            raise SealBroken
        aad, body = sealed[:start], memoryview(sealed)[start:]
        return Opened(header.content_type, AESGCM(body_key).decrypt(ZERO_NONCE, body, aad))
    except InvalidTag:
        raise SealBroken from None


def _bound(grant: GrantId, part: Part, content_type: str, name: str) -> bytes:
    kind, encoded = content_type.encode(), name.encode()
    fits = 0 < len(encoded) <= MAX_NAME_BYTES and len(kind) <= MAX_CONTENT_TYPE_BYTES
    if not (fits and is_uuid(grant) and re.fullmatch(CONTENT_TYPE_PATTERN, content_type)):
        raise InvariantBroken("grant, content type or name cannot be sealed")
    head = MAGIC + bytes([SUITE]) + UUID(grant).bytes + PARTS[part]
    return b"".join(
        (head, len(kind).to_bytes(2, "big"), kind, len(encoded).to_bytes(2, "big"), encoded)
    )


def _parse(sealed: bytes, grant: GrantId, part: Part, name: str) -> _Header:
    """Return the header.  Raises `SealBroken` unless it is canonical and the expected one."""
    at = PREFIX_BYTES
    size = int.from_bytes(sealed[at : at + 2], "big")
    if not PREFIX_BYTES < len(sealed) <= MAX_SEALED_BYTES or size > MAX_CONTENT_TYPE_BYTES:
        raise SealBroken
    try:
        content_type = sealed[at + 2 : at + 2 + size].decode("ascii")
        expected = _bound(grant, part, content_type, name)
    except (UnicodeError, InvariantBroken):
        raise SealBroken from None
    # These values have one canonical header: every other spelling of them differs from it.
    if not hmac.compare_digest(expected, sealed[: len(expected)]):
        raise SealBroken
    salt_end = len(expected) + SALT_BYTES
    end = salt_end + WRAPPED_BYTES
    if len(sealed) < end + COMMITMENT_BYTES + TAG_BYTES:
        raise SealBroken
    salt = sealed[len(expected) : salt_end]
    return _Header(content_type, sealed[:salt_end], salt, sealed[salt_end:end])


def _wrapping(grant_key: bytes, salt: bytes) -> AESGCM:
    if len(grant_key) != KEY_BYTES:
        raise InvariantBroken(f"a grant's key has {KEY_BYTES} bytes")
    return AESGCM(_hkdf(grant_key, salt, WRAP_INFO, KEY_BYTES))


def _body_keys(data_key: bytes, salt: bytes, header: bytes) -> tuple[bytes, bytes]:
    info = BODY_INFO + hashlib.sha256(header).digest()
    both = _hkdf(data_key, salt, info, KEY_BYTES + COMMITMENT_BYTES)
    return both[:KEY_BYTES], both[KEY_BYTES:]


def _hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(key)

"""Seal a picture so that only its recipients open it, and only in its own context.

Format ESV2; `ENVELOPE.md` beside this module is normative, `vectors/` proves it.  Pure: no
I/O and no clock; random bytes come from the caller's source.

Rules, all of them, in the order in which opening applies them:

* Lengths are bounded before they are used, and anything not canonical is refused.
* Upload (its lane, account and id) and part must be those that the *caller* asked for, never
  those in the envelope.  A reader of objects knows their names instead of uploads; a grant's block
  binds both.
* The data key is decrypted, then the commitment is compared in constant time; only then is the
  body decrypted.  An envelope therefore opens under exactly one data key.
* One error, `SealBroken`, for every cause.

The commitment authenticates the whole header, the body only the context: so `replace_recipients`
exchanges those who can open a picture without touching its body.

Every AES-GCM key encrypts exactly once, so the nonce is zero: the body key is derived from a fresh
data key.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple, NewType, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from erasestream.schemas.errors import InvariantBroken, SealBroken
from erasestream.schemas.events.base import CONTENT_TYPE_PATTERN
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, Part
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.sealing.body import BodyCipher
from erasestream.schemas.sealing.recipients import (
    KEY_BYTES,
    MAX_BLOCK_BYTES,
    TAG_BYTES,
    Block,
    Opener,
    Random,
    Recipient,
)

MAGIC = b"ESV2"
SUITE = 1
COMMITMENT_BYTES = 32
MAX_CONTENT_TYPE_BYTES = 128
MAX_RECIPIENTS = 4

UPLOAD_BYTES = 32
PREFIX_BYTES = len(MAGIC) + 1 + UPLOAD_BYTES + 1
MAX_CONTEXT_BYTES = PREFIX_BYTES + 1 + MAX_CONTENT_TYPE_BYTES
MAX_HEADER_BYTES = MAX_CONTEXT_BYTES + 1 + MAX_RECIPIENTS * MAX_BLOCK_BYTES
MAX_PLAINTEXT_BYTES = MAX_CUTOUT_BYTES
MAX_SEALED_BYTES = MAX_HEADER_BYTES + COMMITMENT_BYTES + MAX_PLAINTEXT_BYTES + TAG_BYTES
"""Largest sealed picture, in bytes: a store must accept it, a reader must bound it."""

UPLOAD_LABEL = b"erasestream/v2/upload"
BODY_INFO = b"erasestream/v2/body"

UploadDigest = NewType("UploadDigest", bytes)
"""Digest of lane, account and id: an id can be any text, and can say something about a customer."""
PARTS = {Part.ORIGINAL: b"\x01", Part.CUTOUT: b"\x02"}

_CONTENT_TYPE = re.compile(CONTENT_TYPE_PATTERN)


class Context(NamedTuple):
    """A picture's own metadata, to which its body is bound."""

    upload: UploadDigest
    part: Part
    content_type: str

    @property
    def raw(self) -> bytes:
        """The context's canonical bytes, which begin an envelope.

        Raises `InvariantBroken` if a value is outside the bounds of the format.
        """
        kind = self.content_type.encode()
        fits = len(self.upload) == UPLOAD_BYTES and len(kind) <= MAX_CONTENT_TYPE_BYTES
        if not (fits and _CONTENT_TYPE.fullmatch(self.content_type)):
            raise InvariantBroken("the content type cannot be sealed")
        head = MAGIC + bytes([SUITE]) + self.upload + PARTS[self.part]
        return head + bytes([len(kind)]) + kind


class Opened(NamedTuple):
    """A picture that was sealed: its content type and bytes."""

    content_type: str
    plaintext: bytes


class Header(NamedTuple):
    """The header of an envelope: its context and recipients, canonical but not authenticated."""

    context: Context
    bound: bytes  # the context's canonical bytes
    blocks: tuple[Block, ...]
    raw: bytes  # canonical: context, number of blocks, blocks in ascending order

    @classmethod
    def parse(cls, sealed: bytes, upload: UploadDigest | None, part: Part) -> Self:
        """Parse the header.  Raises `SealBroken` unless it is canonical and the expected one."""
        if not MIN_SEALED_BYTES <= len(sealed) <= MAX_SEALED_BYTES:
            raise SealBroken
        at = PREFIX_BYTES + 1
        end = at + sealed[PREFIX_BYTES]
        if end > min(MAX_CONTEXT_BYTES, len(sealed) - MIN_SEALED_BYTES + at):
            raise SealBroken
        try:
            found = UploadDigest(sealed[len(MAGIC) + 1 : PREFIX_BYTES - 1])
            context = Context(
                found if upload is None else upload, part, sealed[at:end].decode("ascii")
            )
            expected = context.raw
        except (UnicodeError, InvariantBroken):
            raise SealBroken from None
        # These values have one canonical context: every other spelling of them differs from it.
        if not hmac.compare_digest(expected, sealed[:end]):
            raise SealBroken
        blocks, end = _blocks(sealed, end)
        return cls(context, expected, blocks, sealed[:end])


MIN_SEALED_BYTES = PREFIX_BYTES + 2 + COMMITMENT_BYTES + TAG_BYTES
"""Shorter input is refused before anything is read of it."""


def upload_digest(lane: Lane, account: AccountId, upload_id: UploadId) -> UploadDigest:
    """Return the digest of an upload: of its id, and of whom it belongs to."""
    fields = (UPLOAD_LABEL, lane.encode(), account.encode(), upload_id.encode())
    return UploadDigest(hashlib.sha256(b"\0".join(fields)).digest())


def seal(
    plaintext: bytes,
    *,
    context: Context,
    recipients: Sequence[Recipient],
    random: Random = secrets.token_bytes,
) -> bytes:
    """Return the envelope of a picture, which each of the recipients can open.

    `random` is called once, for the data key of 32 bytes.
    Raises `InvariantBroken` if a value is outside the bounds of the format.
    """
    data_key = random(KEY_BYTES)
    if len(plaintext) > MAX_PLAINTEXT_BYTES or len(data_key) != KEY_BYTES:
        raise InvariantBroken("the picture is too large, or the source of random bytes is broken")
    keys = _keys(data_key, context.raw)
    return keys.body.encrypt(plaintext, head=_head(keys, data_key, recipients))


def head_of(context: Context, data_key: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Return header and commitment of a picture: all of its envelope but the body.

    Raises `InvariantBroken` if a value is outside the bounds of the format.
    """
    return _head(_keys(data_key, context.raw), data_key, recipients)


def cipher_of(context: Context, data_key: bytes) -> BodyCipher:
    """Return the cipher of the body of a picture, which knows no recipient."""
    return _keys(data_key, context.raw).body


def body_of(
    sealed: bytes, *, upload: UploadDigest | None, part: Part, data_key: bytes
) -> tuple[BodyCipher, memoryview]:
    """Return the body of a picture, without opening it, and its cipher.

    Raises `SealBroken` unless all of the header is authentic under the data key.
    """
    keys, body_at = _authenticate(sealed, Header.parse(sealed, upload, part), data_key)
    return keys.body, memoryview(sealed)[body_at:]


def data_key_of(sealed: bytes, *, upload: UploadDigest | None, part: Part, opener: Opener) -> bytes:
    """Return the data key of a picture of this upload and part, without opening the picture.

    Raises `SealBroken` unless all of the header is authentic.
    """
    header = Header.parse(sealed, upload, part)
    data_key = _decrypt_data_key(header, opener)
    _authenticate(sealed, header, data_key)
    return data_key


def open_with_data_key(
    sealed: bytes, *, upload: UploadDigest | None, part: Part, data_key: bytes
) -> Opened:
    """Open a picture of this upload and part.  Raises `SealBroken` for anything else."""
    return _open(sealed, Header.parse(sealed, upload, part), data_key)


def open_sealed(
    sealed: bytes, *, upload: UploadDigest | None, part: Part, opener: Opener
) -> Opened:
    """Open a picture of this upload and part.  Raises `SealBroken` for anything else.

    `upload`: None only for a grant, whose block binds the name of the object, and so the upload.
    """
    return open_parsed(sealed, Header.parse(sealed, upload, part), opener)


def open_parsed(sealed: bytes, header: Header, opener: Opener) -> Opened:
    """Open a picture with this header, which was parsed to find the key.  Raises `SealBroken`."""
    return _open(sealed, header, _decrypt_data_key(header, opener))


def replace_recipients(
    sealed: bytes,
    *,
    upload: UploadDigest,
    part: Part,
    data_key: bytes,
    recipients: Sequence[Recipient],
) -> bytes:
    """Return the envelope with the same body, which these recipients can open, and no others.

    Raises `SealBroken` unless all of the present header is authentic under the data key.
    """
    header = Header.parse(sealed, upload, part)
    _, body_at = _authenticate(sealed, header, data_key)
    head = head_of(header.context, data_key, recipients)
    return b"".join((head, memoryview(sealed)[body_at:]))


class _Keys(NamedTuple):
    body: BodyCipher
    commitment: bytes


def _head(keys: _Keys, data_key: bytes, to: Sequence[Recipient]) -> bytes:
    blocks = sorted(each.encrypt(data_key, keys.body.context) for each in to)
    if not 1 <= len({each[:2] for each in blocks}) == len(blocks) <= MAX_RECIPIENTS:
        raise InvariantBroken("no recipients, too many, or one of them twice")
    raw = keys.body.context + bytes([len(blocks)]) + b"".join(each.raw for each in blocks)
    return raw + hmac.digest(keys.commitment, raw, "sha256")


def _decrypt_data_key(header: Header, opener: Opener) -> bytes:
    for block in header.blocks:
        if (block.kind, block.identity) == (opener.kind, opener.identity):
            return opener.decrypt(block, header.bound)
    raise SealBroken


def _open(sealed: bytes, header: Header, data_key: bytes) -> Opened:
    keys, body_at = _authenticate(sealed, header, data_key)
    return Opened(header.context.content_type, keys.body.decrypt(memoryview(sealed)[body_at:]))


def _authenticate(sealed: bytes, header: Header, data_key: bytes) -> tuple[_Keys, int]:
    """Return the keys and where the body begins, if the data key has committed to the header.

    Raises `SealBroken`.
    """
    keys = _keys(data_key, header.bound)
    commitment = hmac.digest(keys.commitment, header.raw, "sha256")
    body_at = len(header.raw) + COMMITMENT_BYTES
    if not hmac.compare_digest(commitment, sealed[len(header.raw) : body_at]):
        raise SealBroken
    return keys, body_at


def _blocks(sealed: bytes, at: int) -> tuple[tuple[Block, ...], int]:
    """Return the blocks and where they end.  Raises `SealBroken` unless they are canonical."""
    count, at = sealed[at], at + 1
    if not 1 <= count <= MAX_RECIPIENTS:
        raise SealBroken
    blocks = list[Block]()
    for _ in range(count):
        start, end = at + 3, at + 3 + int.from_bytes(sealed[at + 1 : at + 3], "big")
        if end - at > MAX_BLOCK_BYTES or end + COMMITMENT_BYTES + TAG_BYTES > len(sealed):
            raise SealBroken
        blocks.append(Block.parse(sealed[at], sealed[start:end]))
        if len(blocks) > 1 and blocks[-2][:2] >= blocks[-1][:2]:
            raise SealBroken
        at = end
    return tuple(blocks), at


def _keys(data_key: bytes, bound: bytes) -> _Keys:
    """Return the keys of body and commitment for a context's canonical bytes."""
    if len(data_key) != KEY_BYTES:
        raise SealBroken
    info = BODY_INFO + hashlib.sha256(bound).digest()
    both = HKDF(SHA256(), 2 * KEY_BYTES, salt=None, info=info).derive(data_key)
    return _Keys(BodyCipher(both[:KEY_BYTES], bound), both[KEY_BYTES:])

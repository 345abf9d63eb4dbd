"""The capsule: the data keys of an upload's photo and cut-out, sealed for the encryption sink.

`ENVELOPE.md` beside this module is normative.  A capsule travels beside the sealed images; the sink
opens it to replace their recipients, and needs no other key of theirs.

* It names an epoch of the purpose `sink` and no other, so that a record cannot choose a key.
* It opens only for the upload that it was made for.
* It gives a data key only for the value whose SHA-256 it contains.
* One error, `SealBroken`, for every cause.
"""

import hashlib
import hmac
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from erasestream.schemas.errors import InvariantBroken, SealBroken
from erasestream.schemas.events.images import Part
from erasestream.schemas.sealing.envelope import UploadDigest
from erasestream.schemas.sealing.recipients import (
    ENCAPSULATED_BYTES,
    EPOCH_BYTES,
    HPKE_SUITE,
    KEY_BYTES,
    TAG_BYTES,
    Epoch,
    EpochOpener,
)

MAGIC = b"ESC1"
PURPOSE = "sink"
INFO = b"erasestream/v2/capsule"
HASH_BYTES = 32
_ENTRY_BYTES = KEY_BYTES + HASH_BYTES
_NUMBER_AT = len(MAGIC) + 1 + len(PURPOSE)
_ENCRYPTED_AT = _NUMBER_AT + EPOCH_BYTES
CAPSULE_BYTES = _ENCRYPTED_AT + ENCAPSULATED_BYTES + 2 * _ENTRY_BYTES + TAG_BYTES
"""Every capsule has this size."""


class SealedImage(NamedTuple):
    """A data key, and the SHA-256 of the sealed value that it opens."""

    data_key: bytes
    sha256: bytes


class Capsule(NamedTuple):
    """An opened capsule."""

    photo: SealedImage
    cutout: SealedImage

    def data_key_of(self, part: Part, sha256: bytes) -> bytes:
        """Return the data key of the value that has this SHA-256.

        Raises `SealBroken` if it is another value.
        """
        image = self.photo if part is Part.ORIGINAL else self.cutout
        if not hmac.compare_digest(image.sha256, sha256):
            raise SealBroken
        return image.data_key


def seal_capsule(
    upload: UploadDigest,
    epoch: Epoch,
    key: X25519PublicKey,
    *,
    photo: tuple[bytes, bytes],
    cutout: tuple[bytes, bytes],
) -> bytes:
    """Return the capsule of an upload, for an epoch of the purpose `sink` and its public key.

    `photo` and `cutout`: the data key and the whole sealed value.
    Raises `InvariantBroken` for another purpose, or a key outside the format.
    """
    content = b"".join(key + hashlib.sha256(value).digest() for key, value in (photo, cutout))
    if epoch.purpose != PURPOSE or {len(photo[0]), len(cutout[0])} != {KEY_BYTES}:
        raise InvariantBroken("the capsule cannot be sealed")
    return MAGIC + epoch.identity + HPKE_SUITE.encrypt(content, key, _info(epoch, upload))


def epoch_of(capsule: bytes) -> Epoch:
    """Return the epoch whose key opens a capsule.

    It is not authenticated: do nothing with it but ask for its key.  Raises `SealBroken`.
    """
    epoch = Epoch(PURPOSE, int.from_bytes(capsule[_NUMBER_AT:_ENCRYPTED_AT], "big"))
    if len(capsule) != CAPSULE_BYTES or not capsule.startswith(MAGIC + epoch.identity):
        raise SealBroken
    return epoch


def open_capsule(capsule: bytes, upload: UploadDigest, opener: EpochOpener) -> Capsule:
    """Open the capsule of this upload.  Raises `SealBroken` for anything else."""
    if epoch_of(capsule) != opener.epoch:
        raise SealBroken
    try:
        content = HPKE_SUITE.decrypt(
            capsule[_ENCRYPTED_AT:], opener.key, _info(opener.epoch, upload)
        )
    except (InvalidTag, ValueError):
        raise SealBroken from None
    photo, cutout = content[:_ENTRY_BYTES], content[_ENTRY_BYTES:]
    return Capsule(_entry(photo), _entry(cutout))


def _entry(raw: bytes) -> SealedImage:
    return SealedImage(raw[:KEY_BYTES], raw[KEY_BYTES:])


def _info(epoch: Epoch, upload: UploadDigest) -> bytes:
    return INFO + epoch.identity + upload

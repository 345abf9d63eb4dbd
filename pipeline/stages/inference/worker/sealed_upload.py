"""Sealed uploads: open the data key, hand out ciphers, and put the sealed result together.

The image is opened in the child alone; here it is ciphertext before and after.  Pure.

The header of an envelope is looked at before it is authenticated, but only to name what is wrong
with it: the sealing itself has one error for everything.
"""

import secrets
from contextlib import suppress
from dataclasses import dataclass, field

from erasestream.pipeline.stages.inference.isolation.ciphers import ImageCiphers
from erasestream.pipeline.stages.inference.worker.epoch_keys import UploadKeys
from erasestream.schemas.errors import Code, InvalidInput, SealBroken
from erasestream.schemas.events.images import Part, Upload
from erasestream.schemas.ids import Lane
from erasestream.schemas.sealing.capsule import seal_capsule
from erasestream.schemas.sealing.envelope import (
    Context,
    Header,
    UploadDigest,
    body_of,
    cipher_of,
    data_key_of,
    head_of,
)
from erasestream.schemas.sealing.recipients import KEY_BYTES
from erasestream.topics.catalog.purposes import uploads_for


@dataclass(frozen=True, kw_only=True)
class OpenedUpload:
    """An upload whose data key is known: its encrypted image, and the ciphers for its child."""

    upload: Upload = field(repr=False)
    body: memoryview = field(repr=False)
    ciphers: ImageCiphers
    keys: UploadKeys
    data_key: bytes = field(repr=False)
    context: Context
    """That of the cut-out, of the same upload."""
    cutout_key: bytes = field(repr=False)

    def seal(self, body: bytes) -> tuple[bytes, bytes | None]:
        """Return the sealed cut-out with this body, and the capsule of both images.

        There is no capsule, and so nothing that the sink could open, if they are never retained.
        """
        value = head_of(self.context, self.cutout_key, [self.keys.results]) + body
        if not self.upload.is_retainable:
            return value, None
        capsule = seal_capsule(
            self.context.upload,
            self.keys.kept.epoch,
            self.keys.kept.key,
            photo=(self.data_key, self.upload.data),
            cutout=(self.cutout_key, value),
        )
        return value, capsule


def epoch_of(value: bytes, lane: Lane) -> int:
    """Return the epoch in the header of a sealed upload.

    Raises `InvalidInput`: seal_broken, or wrong_purpose if it is not for the workers of this lane.
    """
    blocks = (block.epoch for block in _header(value).blocks)
    epochs = [epoch for epoch in blocks if epoch and epoch.purpose == uploads_for(lane)]
    if not epochs:
        raise InvalidInput(code=Code.WRONG_PURPOSE)
    if len(epochs) > 1:  # it would be of two hours
        raise InvalidInput(code=Code.SEAL_BROKEN)
    return epochs[0].number


def check_context(upload: Upload, digest: UploadDigest) -> None:
    """Raise `InvalidInput` (wrong_context) if the image is sealed as another than this upload's.

    `digest`: of the lane that it was read from, and the account and id that the record claims.
    """
    context = _header(upload.data).context
    if (context.upload, context.part) != (digest, Part.ORIGINAL):
        raise InvalidInput(code=Code.WRONG_CONTEXT)


def open_upload(upload: Upload, digest: UploadDigest, keys: UploadKeys) -> OpenedUpload:
    """Open the data key of an upload.  Raises `InvalidInput` (seal_broken)."""
    sealed, part = upload.data, Part.ORIGINAL
    try:
        data_key = data_key_of(sealed, upload=digest, part=part, opener=keys.opener)
        photo, body = body_of(sealed, upload=digest, part=part, data_key=data_key)
    except SealBroken:
        raise InvalidInput(code=Code.SEAL_BROKEN) from None
    context = Context(digest, Part.CUTOUT, upload.options.format.content_type)
    cutout_key = secrets.token_bytes(KEY_BYTES)
    return OpenedUpload(
        upload=upload,
        body=body,
        ciphers=ImageCiphers(photo, cipher_of(context, cutout_key)),
        keys=keys,
        data_key=data_key,
        context=context,
        cutout_key=cutout_key,
    )


def _header(value: bytes) -> Header:
    for part in Part:
        with suppress(SealBroken):
            return Header.parse(value, None, part)
    raise InvalidInput(code=Code.SEAL_BROKEN)

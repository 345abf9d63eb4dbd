"""Pictures in `retained` whose bytes follow from their upload, so that each can be checked."""

from datetime import UTC, datetime
from hashlib import sha256

from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId

PNG = b"\x89PNG\r\n\x1a\n"


def bytes_of(upload: UploadId, size: int) -> bytes:
    """Return the bytes of an upload's pictures, which follow from its id."""
    digest = sha256(upload.encode()).digest()
    return (PNG + digest * (1 + size // len(digest)))[:size]


def kept_picture(
    lane: Lane,
    account: AccountId,
    grant: GrantId,
    upload: UploadId,
    size: int,
    part: Part = Part.ORIGINAL,
) -> Retained:
    """Return a picture of an upload that is made now."""
    now = datetime.now(UTC)
    return Retained(
        id=upload,
        time=now,
        lane=lane,
        account=account,
        part=part,
        grant=grant,
        mark="0/0",
        position=Position(topic_id="A" * 22, partition=0, offset=0),
        uploaded_at=now,
        content_type="image/png",
        data=bytes_of(upload, size),
    )

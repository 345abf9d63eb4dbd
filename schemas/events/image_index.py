"""Events of the index of a gateway's images.  They hold no image, no account and no upload's id.

`id` is the `image_key` of the upload, `owner` the `owner_key` of its account (`schemas/ids.py`): an
entry is found by both, and tells neither.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from erasestream.schemas.events.base import Event, Sha256, TimedEvent
from erasestream.schemas.ids import UUID_PATTERN

OwnerField = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]


class ResultIndexed(Event):
    """Where a result is in the lane's topic of results: in the partition of this record.

    `code` is that of a failed result; `retained`, whether photo and cut-out went to the encryption
    sink as well.  `reference_sha256` tells two uploads of one id apart.
    """

    type: ClassVar[str] = "com.backgrounderase.image.indexed.v1"
    body: ClassVar[frozenset[str] | None] = frozenset(
        {"owner", "offset", "uploaded_at", "code", "retained", "reference_sha256"}
    )

    owner: OwnerField
    offset: Annotated[int, Field(ge=0)]
    uploaded_at: AwareDatetime
    code: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")] | None = None
    retained: bool = False
    reference_sha256: Sha256 | None = None


class ImageState(StrEnum):
    """A promise of a gateway about an image."""

    ACCEPTED = "accepted"
    """It is on the brokers, and a customer may have its id."""
    DELETED = "deleted"
    """No gateway shows it any more."""


class ImageMarked(TimedEvent):
    """A gateway's mark on an image, which every gateway of its lane follows."""

    type: ClassVar[str] = "com.backgrounderase.image.marked.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"owner", "state", "retained"})

    owner: OwnerField
    state: ImageState
    retained: bool = False
    """Whether the image may be retained: its owner had opted in when it was accepted."""

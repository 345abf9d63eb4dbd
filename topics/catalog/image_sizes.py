"""Largest images of an installation: those that events may carry, or smaller ones."""

from dataclasses import dataclass

from erasestream.schemas.errors import Refused
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.images import (
    MAX_CUTOUT_BYTES,
    MAX_UPLOAD_BYTES,
    Cutout,
    Retained,
    Upload,
)


@dataclass(frozen=True, kw_only=True)
class ImageSizes:
    """Limits in bytes.  Raises `Refused` for limits that cannot work together."""

    max_upload_bytes: int = MAX_UPLOAD_BYTES
    max_cutout_bytes: int = MAX_CUTOUT_BYTES

    def __post_init__(self) -> None:
        if not 0 < self.max_upload_bytes <= MAX_UPLOAD_BYTES:
            raise Refused(f"max_upload_bytes: from 1 to {MAX_UPLOAD_BYTES}")
        if not self.max_upload_bytes <= self.max_cutout_bytes <= MAX_CUTOUT_BYTES:
            # An isolated product is returned as it is, and `retained` carries uploads as well.
            raise Refused(
                f"max_cutout_bytes: from max_upload_bytes, {self.max_upload_bytes}, "
                f"to {MAX_CUTOUT_BYTES}"
            )

    def largest_in(self, events: tuple[type[Event], ...]) -> int | None:
        """Return the largest image in a topic of these events; None if there is none."""
        if Cutout in events or Retained in events:
            return self.max_cutout_bytes
        return self.max_upload_bytes if Upload in events else None

"""What a customer may ask of a cut-out.

One model for producer, command line and event.  Unknown options are refused: a typo must
not silently give another picture than the one that was asked for.
"""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from erasestream.schemas.errors import Code, InvalidEvent


class OutputFormat(StrEnum):
    """The file format of the cut-out."""

    PNG = "png"
    WEBP = "webp"


class CutoutOptions(BaseModel):
    """What the cut-out shall look like; the defaults are what most people want."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    format: OutputFormat = OutputFormat.PNG

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The options that an event carries.  Raises `InvalidEvent` (invalid_options)."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, e["loc"])) or "options" for e in error.errors())
            raise InvalidEvent(fields[:100], code=Code.INVALID_OPTIONS) from None

    def to_json(self) -> str:
        """Canonical JSON with the values that differ from the defaults."""
        return self.model_dump_json(exclude_defaults=True)

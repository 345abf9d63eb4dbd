"""A finished cut-out, and the steps that made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from erasestream.schemas.events.foreground import Foreground
from erasestream.schemas.events.images import Adjusted


class Step(StrEnum):
    """Steps of the pipeline, in order."""

    DECODE = "decode"
    RESIZE = "resize"
    """To the model's input.  No time, like `infer`, where the image's own alpha is kept."""
    INFER = "infer"
    COMPOSE = "compose"
    """The mask becomes the alpha channel, and edges lose the colour of the old background."""
    ARRANGE = "arrange"
    """Crop, size and background."""
    ENCODE = "encode"


@dataclass(frozen=True, kw_only=True)
class CutoutImage:
    """Finished cut-out: its file, its size in pixels, and the duration of each step."""

    data: bytes = field(repr=False)
    content_type: str
    steps_ms: Mapping[str, float]
    width: int
    height: int
    adjusted: Adjusted | None = None
    foreground: Foreground | None = None

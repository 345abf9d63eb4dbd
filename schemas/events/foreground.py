"""Where the product is in a cut-out."""

import re
from typing import Annotated, NamedTuple, Self

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

FOREGROUND_PATTERN = r"^((0|[1-9][0-9]{0,8})/){2}[1-9][0-9]{0,8}/[1-9][0-9]{0,8}$"
_FOREGROUND = re.compile(FOREGROUND_PATTERN)


class Foreground(NamedTuple):
    """Box around all that is visible, in pixels, written `<left>/<top>/<width>/<height>`."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the written form.  Raises `ValueError`."""
        if _FOREGROUND.fullmatch(text) is None:
            raise ValueError("not a box")
        return cls(*map(int, text.split("/")))

    def __str__(self) -> str:
        return "/".join(map(str, self))

    def is_within(self, width: int, height: int) -> bool:
        """Return whether the box is in a picture of this size, and not empty."""
        is_box = min(self.left, self.top) >= 0 and min(self.width, self.height) > 0
        return is_box and self.left + self.width <= width and self.top + self.height <= height


def _foreground(value: object) -> Foreground:
    if not isinstance(value, str | Foreground):
        raise ValueError("not a box")  # noqa: TRY004 (pydantic reports ValueError as invalid input)
    return Foreground.parse(str(value))  # validates boxes made in code as well


ForegroundField = Annotated[
    Foreground,
    PlainValidator(_foreground),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": FOREGROUND_PATTERN}),
]

"""Options of a cut-out, under the names that remove.bg introduced.

One model for producer, command line and event.  Unknown and contradictory options are refused:
a typo must not silently produce another picture than the one requested.  Pure: margins and sizes
are converted to pixels here and applied elsewhere.
"""

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from erasestream.schemas.errors import Code, InvalidEvent

MAX_MARGIN_PX = 500
MAX_MARGIN_PERCENT = 50
MIN_DIMENSION = 16
MAX_DIMENSION = 50_000
MAX_QUALITY = 100

_LENGTH = re.compile(r"([0-9]{1,3})(px|%)")
_HEX = re.compile(r"#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_MARGIN_PATTERN = r"^[0-9]{1,3}(px|%)( [0-9]{1,3}(px|%)){0,3}$"

# The sixteen names of CSS 1 and HTML 4.
COLOURS = {
    "black": (0, 0, 0),
    "silver": (192, 192, 192),
    "gray": (128, 128, 128),
    "white": (255, 255, 255),
    "maroon": (128, 0, 0),
    "red": (255, 0, 0),
    "purple": (128, 0, 128),
    "fuchsia": (255, 0, 255),
    "green": (0, 128, 0),
    "lime": (0, 255, 0),
    "olive": (128, 128, 0),
    "yellow": (255, 255, 0),
    "navy": (0, 0, 128),
    "blue": (0, 0, 255),
    "teal": (0, 128, 128),
    "aqua": (0, 255, 255),
}

Colour = tuple[int, int, int]


class Margins(NamedTuple):
    """Margins around the product, in pixels."""

    top: int
    right: int
    bottom: int
    left: int


class OutputFormat(StrEnum):
    """File format of the cut-out.

    `auto` is a WebP that always fits: lossless, else lossy, else smaller; the result records
    which.  `jpg` has no transparency: its background is `bg_color`, by default white.
    `zip` has the colour, black where the background was (`color.jpg`), and the alpha channel
    (`alpha.png`); its upload is never retained.
    """

    PNG = "png"
    WEBP = "webp"
    JPG = "jpg"
    ZIP = "zip"
    AUTO = "auto"

    @property
    def content_type(self) -> str:
        """Content type of the file."""
        match self:
            case OutputFormat.PNG:
                return "image/png"
            case OutputFormat.JPG:
                return "image/jpeg"
            case OutputFormat.ZIP:
                return "application/zip"
            case _:
                return "image/webp"


class Channels(StrEnum):
    """The cut-out, or its alpha channel alone as a grey image."""

    RGBA = "rgba"
    ALPHA = "alpha"


class Size(StrEnum):
    """Largest number of pixels of the cut-out; images are never enlarged."""

    AUTO = "auto"
    FULL = "full"
    PREVIEW = "preview"
    SMALL = "small"
    REGULAR = "regular"
    MEDIUM = "medium"
    HD = "hd"

    @property
    def max_pixels(self) -> int | None:
        """Most pixels; None keeps the photo's own size."""
        match self:
            case Size.AUTO | Size.FULL:
                return None
            case Size.PREVIEW | Size.SMALL | Size.REGULAR:
                return 250_000
            case Size.MEDIUM:
                return 1_500_000
            case Size.HD:
                return 4_000_000


class Edges(StrEnum):
    """Remove the old background's colour from soft edges, or leave it."""

    CLEAN = "clean"
    AS_IS = "as_is"


class OwnAlpha(StrEnum):
    """Treatment of an image that has transparency of its own.

    `auto` keeps it where it isolates the product already, and cuts out everything else; `keep`
    takes it as the cut-out, whatever it shows; `cut` always cuts out the product.
    """

    AUTO = "auto"
    KEEP = "keep"
    CUT = "cut"


_SizeName = Literal["auto", "full", "preview", "small", "regular", "medium", "hd"]


class CutoutOptions(BaseModel):
    """Options of one cut-out; the defaults suit most uses.

    Raises `InvalidEvent` (invalid_options) for unknown and contradictory options.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True
    )

    format: OutputFormat = OutputFormat.PNG
    channels: Channels = Channels.RGBA
    size: Size = Size.AUTO
    max_dimension: Annotated[int, Field(ge=MIN_DIMENSION, le=MAX_DIMENSION)] | None = None
    """Longest side in pixels, instead of a named size."""
    crop: bool = False
    """Crop the empty area around the product."""
    crop_margin: Annotated[str, Field(pattern=_MARGIN_PATTERN)] | None = None
    """Margin around the product: one value, two (top and bottom, left and right) or four (top,
    right, bottom, left), each up to 500px, or up to 50% of the product's height or width."""
    bg_color: Annotated[str, Field(max_length=16)] | None = None
    """`81d4fa`, `#81d4fa`, `#fff`, or one of the sixteen names of CSS 1."""
    quality: Annotated[int, Field(ge=1, le=MAX_QUALITY)] | None = None
    """Quality of jpg (default 90) and of WebP, which is lossless without it."""
    edges: Edges = Edges.CLEAN
    own_alpha: OwnAlpha = OwnAlpha.AUTO

    if TYPE_CHECKING:
        # The names of the values are accepted, too.
        def __init__(
            self,
            *,
            format: OutputFormat | Literal["png", "webp", "jpg", "zip", "auto"] = OutputFormat.PNG,  # noqa: A002
            channels: Channels | Literal["rgba", "alpha"] = Channels.RGBA,
            size: Size | _SizeName = Size.AUTO,
            max_dimension: int | None = None,
            crop: bool = False,
            crop_margin: str | None = None,
            bg_color: str | None = None,
            quality: int | None = None,
            edges: Edges | Literal["clean", "as_is"] = Edges.CLEAN,
            own_alpha: OwnAlpha | Literal["auto", "keep", "cut"] = OwnAlpha.AUTO,
        ) -> None: ...

    else:

        def __init__(self, **options: object) -> None:
            try:
                super().__init__(**options)
            except ValidationError as error:
                raise InvalidEvent(describe_errors(error), code=Code.INVALID_OPTIONS) from None

    @field_validator("crop_margin")
    @classmethod
    def _margin_is_bounded(cls, value: str | None) -> str | None:
        lengths = _LENGTH.findall(value or "")
        largest = {"px": MAX_MARGIN_PX, "%": MAX_MARGIN_PERCENT}
        too_long = any(int(number) > largest[unit] for number, unit in lengths)
        if value and (len(lengths) not in {1, 2, 4} or too_long):
            raise _refused("crop_margin has 1, 2 or 4 values of at most 500px or 50%")
        return value

    @field_validator("bg_color")
    @classmethod
    def _colour_is_known(cls, value: str | None) -> str | None:
        if value is not None and value.lower() not in COLOURS and not _HEX.fullmatch(value):
            raise _refused("bg_color is a hex value or one of the names of CSS 1")
        return value

    @model_validator(mode="after")
    def _no_contradictions(self) -> Self:
        if self.crop_margin is not None and not self.crop:
            raise _refused("crop_margin needs crop")
        if self.max_dimension is not None and self.size is not Size.AUTO:
            raise _refused("size and max_dimension exclude each other")
        if self.quality is not None and self.format is OutputFormat.PNG:
            raise _refused("png is lossless and takes no quality")
        if self.format is OutputFormat.ZIP and self.channels is Channels.ALPHA:
            raise _refused("zip has colour and alpha channel")
        if self.format is OutputFormat.ZIP and self.bg_color is not None:
            raise _refused("zip has no bg_color")
        if self.bg_color is not None and self.channels is Channels.ALPHA:
            raise _refused("an alpha channel alone has no bg_color")
        return self

    @property
    def background(self) -> Colour | None:
        """Background colour; None leaves it transparent."""
        if self.channels is Channels.ALPHA:
            return None
        if self.bg_color is None:
            return COLOURS["white"] if self.format is OutputFormat.JPG else None
        if self.bg_color.lower() in COLOURS:
            return COLOURS[self.bg_color.lower()]
        digits = self.bg_color.removeprefix("#")
        if len(digits) == 3:  # noqa: PLR2004
            digits = "".join(digit * 2 for digit in digits)
        red, green, blue = bytes.fromhex(digits)
        return red, green, blue

    def margins(self, width: int, height: int) -> Margins:
        """Return the margins around a product of this size."""
        lengths = [(int(n), unit) for n, unit in _LENGTH.findall(self.crop_margin or "0px")]
        top, right, bottom, left = (lengths * 4)[:4]
        return Margins(
            top=_pixels(top, height),
            right=_pixels(right, width),
            bottom=_pixels(bottom, height),
            left=_pixels(left, width),
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the options of an event.  Raises `InvalidEvent` (invalid_options)."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidEvent(describe_errors(error), code=Code.INVALID_OPTIONS) from None

    def to_json(self) -> str:
        """Return canonical JSON of the values that differ from the defaults."""
        return self.model_dump_json(exclude_defaults=True)


def describe_errors(error: ValidationError) -> str:
    """Return the names of the invalid options, or our own sentences; never a value."""
    return "; ".join(
        e["msg"] if e["type"] == _OURS else ".".join(map(str, e["loc"])) or "options"
        for e in error.errors()
    )[:120]


_OURS = "refused_option"


def _refused(sentence: str) -> PydanticCustomError:
    return PydanticCustomError(_OURS, sentence)


def _pixels(length: tuple[int, str], whole: int) -> int:
    number, unit = length
    return number if unit == "px" else round(whole * number / 100)

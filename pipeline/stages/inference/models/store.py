"""Installed models, and the record of each installation.

An installed model is a folder `<name>-<version>` with two files: `model.onnx`, and
`installed.json` with the manifest, the SHA-256 of the model as built, and the reason for the
build.  The folder appears complete or not at all.  Nothing here loads or runs a model.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from erasestream.pipeline.stages.inference.models.manifest import Build, Manifest, parse_file
from erasestream.schemas.errors import MissingModel, ModelRefused
from erasestream.schemas.events.base import Sha256

MODEL_FILE = "model.onnx"
RECORD_FILE = "installed.json"
PREFERRED = {"isnet": "1.4.5-cpu2"}
"""The version that a name without one means, where older versions are still installed as well.  A
build that is made differently is another version, which `make setup` installs."""


class Choice(BaseModel):
    """The build that runs here, and the measurements on this CPU that decided it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: Build
    reason: str
    """A sentence for the operator."""
    vnni: bool | None = None
    """Whether the CPU has instructions for products of 8-bit numbers."""
    iou: float | None = None
    """The worst of the held-out photos, int8 against single precision."""
    single_ms: float | None = None
    int8_ms: float | None = None
    """On one core, per picture."""


class Installed(BaseModel):
    """Installed model: its manifest, and the file that runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: Manifest
    sha256: Sha256
    """Of the model as built, which runs and which results name."""
    choice: Choice | None = None
    """For a build that depends on the CPU."""
    folder: Annotated[Path, Field(exclude=True)] = Path()

    @property
    def path(self) -> Path:
        """ONNX file."""
        return self.folder / MODEL_FILE

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record in this folder, and check the model's SHA-256.

        Raises `Refused` (missing_model, model_refused).
        """
        if not (folder / RECORD_FILE).is_file():
            raise MissingModel(f"no model in {folder}")
        installed = parse_file(cls, folder / RECORD_FILE).model_copy(update={"folder": folder})
        if not installed.path.is_file() or sha256_of(installed.path) != installed.sha256:
            raise ModelRefused(
                f"{installed.path} was changed: remove {folder} and install it again",
            )
        return installed


class ModelStore:
    """Folder with the installed models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Installed:
        """Return the model of this name, or name and version (`isnet`, `isnet-1.4.5-fp32`).

        Its file is checked.  Raises `Refused`: missing_model (also if several versions are
        installed, none is named and none is preferred), model_refused.
        """
        records = sorted(self.folder.glob(f"*/{RECORD_FILE}"))
        manifests = {path.parent: parse_file(Installed, path).manifest for path in records}
        found = [f for f, m in manifests.items() if name in {m.name, m.label}]
        preferred = [f for f in found if manifests[f].version == PREFERRED.get(name)]
        found = preferred or found
        match found:
            case [folder]:
                return Installed.read(folder)
            case []:
                raise MissingModel(f"no {name} in {self.folder}")
            case _:
                versions = ", ".join(folder.name for folder in found)
                raise MissingModel(f"name one of {versions}")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Install a model: download it once, accept it only if it is the one that its manifest pins.

Order, failing closed:

1. Download into a temporary folder.
2. Compare the SHA-256 of the whole file with the manifest's.
3. Build, and choose between builds on this CPU.
4. Load the model as a worker would, and compare its mask with the golden one.
5. Rename the folder.

An interrupted installation leaves nothing that looks complete.  Installing again does nothing, and
works offline.
"""

import tempfile
from pathlib import Path

from erasestream.pipeline.stages.inference.models.install import calibration_photos
from erasestream.pipeline.stages.inference.models.install.builder import build
from erasestream.pipeline.stages.inference.models.install.download import Progress, download
from erasestream.pipeline.stages.inference.models.install.trial import choose
from erasestream.pipeline.stages.inference.models.isnet import ISNET
from erasestream.pipeline.stages.inference.models.manifest import Build, Manifest, Use
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import (
    MODEL_FILE,
    RECORD_FILE,
    Choice,
    Installed,
    ModelStore,
    sha256_of,
)
from erasestream.schemas.errors import InvalidImage, ModelRefused, Refused


def announcement(manifest: Manifest = ISNET) -> str:
    """Return what an installation downloads and its licence, to be shown before it starts."""
    size = f"about {manifest.download_bytes / 1e6:.0f} MB" if manifest.download_bytes else "a file"
    return f"Model {manifest.label}: {size} from {manifest.source}. Licence: {manifest.licence}"


def install(
    store: ModelStore,
    *,
    manifest: Manifest = ISNET,
    source: str | None = None,
    photos: Path | None = None,
    accepted: Use = Use.ANY,
    progress: Progress | None = None,
) -> Installed:
    """Return the installed model; download, check and build it if it is not installed yet.

    `source` is the operator's path or https address, by default the manifest's.  `photos` is the
    operator's folder of photos for calibration and evaluation, by default the manifest's photos.
    `accepted` is the use of the model that the operator confirms.
    Raises `Refused`: missing_model (it cannot be downloaded, and what to do), model_refused (it
    does not match the manifest, or its licence forbids this use).
    """
    folder = store.folder / manifest.label
    if folder.is_dir():
        return _read_installed(folder, manifest)
    if manifest.is_non_commercial and accepted is not Use.NON_COMMERCIAL:
        raise ModelRefused(
            f"the licence of {manifest.label} allows no commercial use: if yours is none, confirm"
            " that with --non-commercial",
        )
    store.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.folder, prefix=".installing-") as name:
        work, report = Path(name), progress or _ignore_progress
        built = _build(work, manifest, source or manifest.source, photos, report)
        try:
            built.rename(folder)
        except OSError:
            # Another process was faster; its model is checked like any other.
            if not folder.is_dir():
                raise
    return _read_installed(folder, manifest)


def _ignore_progress(step: str, *, done: int, total: int) -> None:
    pass


def _read_installed(folder: Path, manifest: Manifest) -> Installed:
    installed = Installed.read(folder)
    if installed.manifest != manifest:
        raise ModelRefused(
            f"{folder} was installed with another manifest: remove it, or change the version",
        )
    return installed


def _build(
    work: Path, manifest: Manifest, source: str, photos: Path | None, progress: Progress
) -> Path:
    """Download, check and build the model; return its folder."""
    model = download(work, source, manifest, progress)
    progress("checking", done=0, total=0)
    if (actual := sha256_of(model)) != manifest.sha256:
        raise ModelRefused(f"its SHA-256 is {actual}; another model needs its own manifest")
    progress("building", done=0, total=0)
    fresh = work / manifest.label
    fresh.mkdir()
    build(manifest, model, fresh / MODEL_FILE)
    choice = _choose(work, manifest, fresh, photos, progress)
    installed = Installed(
        manifest=manifest, sha256=sha256_of(fresh / MODEL_FILE), choice=choice, folder=fresh
    )
    (fresh / RECORD_FILE).write_text(installed.model_dump_json(indent=2) + "\n")
    progress("trying", done=0, total=0)
    Segmenter(installed).warm_up()
    return fresh


def _choose(
    work: Path, manifest: Manifest, fresh: Path, photos: Path | None, progress: Progress
) -> Choice | None:
    """Keep the better build, if it depends on the CPU."""
    if manifest.build is not Build.STATIC_INT8:
        return None
    if photos is not None:
        found = calibration_photos.of_folder(photos)
    elif manifest.photos is not None:
        found = calibration_photos.of_package(manifest.photos, work)
    else:
        found = calibration_photos.NONE
    try:
        return choose(
            manifest,
            fresh,
            found,
            count=lambda step, done, total: progress(step, done=done, total=total),
        )
    except InvalidImage as error:
        raise Refused(f"a calibration photo: {error.sentence}") from error

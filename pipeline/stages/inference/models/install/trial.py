"""Compare the build in 8 bits with single precision, on this machine.

Both cut out photos that were not used for calibration; `build_choice.py` decides.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from erasestream.pipeline.stages.inference.imaging.decode import decode
from erasestream.pipeline.stages.inference.models.install import build_choice
from erasestream.pipeline.stages.inference.models.install.calibration_photos import PhotoSet
from erasestream.pipeline.stages.inference.models.install.quantise import quantise
from erasestream.pipeline.stages.inference.models.manifest import Build, Manifest
from erasestream.pipeline.stages.inference.models.preprocessing import to_input
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import (
    MODEL_FILE,
    Choice,
    Installed,
    sha256_of,
)
from erasestream.schemas.clocks import Clock

CPUINFO = Path("/proc/cpuinfo")
Count = Callable[[str, int, int], None]
"""Called with the step, the number of photos that are done, and that of all photos."""
Mask = NDArray[np.float32]


def choose(
    manifest: Manifest,
    folder: Path,
    photos: PhotoSet,
    *,
    count: Count,
    clock: Clock = time.process_time,
) -> Choice:
    """Leave the better build as the folder's model, which is the one in single precision before.

    `clock` counts CPU seconds of this process: other processes have no influence.
    Raises `Refused` (model_refused) if the model cannot be quantised, `InvalidImage` for a photo.
    """
    if not photos.is_enough:
        return build_choice.too_few(
            calibration=len(photos.calibration), held_out=len(photos.held_out)
        )
    single, int8 = folder / MODEL_FILE, folder / "int8.onnx"
    quantise(
        single,
        int8,
        input_name=manifest.input_name or "",
        pictures=_inputs(manifest, photos.calibration, "calibrating", count),
    )
    wanted, single_ms = _masks(_as_installed(manifest, folder), photos.held_out, count, clock)
    trial = folder / "trial"
    trial.mkdir()
    int8.rename(trial / MODEL_FILE)
    found, int8_ms = _masks(_as_installed(manifest, trial), photos.held_out, count, clock)
    choice = build_choice.decide(
        worst_iou=min(map(build_choice.iou, wanted, found)),
        single_ms=single_ms,
        int8_ms=int8_ms,
        vnni=build_choice.multiplies_bytes(CPUINFO.read_text() if CPUINFO.exists() else ""),
    )
    _keep_better(choice, single, trial)
    return choice


def _keep_better(choice: Choice, single: Path, trial: Path) -> None:
    if choice.build is Build.STATIC_INT8:
        (trial / MODEL_FILE).replace(single)
    else:
        (trial / MODEL_FILE).unlink()
    trial.rmdir()


def _as_installed(manifest: Manifest, folder: Path) -> Installed:
    return Installed(manifest=manifest, sha256=sha256_of(folder / MODEL_FILE), folder=folder)


def _masks(
    installed: Installed, photos: Sequence[bytes], count: Count, clock: Clock
) -> tuple[list[Mask], float]:
    """Return the masks, and the milliseconds of the fastest: the first run includes set-up."""
    segmenter = Segmenter(installed)
    masks, times = [], []
    for tensor in _inputs(installed.manifest, photos, "judging", count):
        begun = clock()
        masks.append(segmenter.mask(tensor))
        times.append((clock() - begun) * 1000)
    return masks, min(times)


def _inputs(
    manifest: Manifest, photos: Sequence[bytes], step: str, count: Count
) -> Iterator[NDArray[np.float32]]:
    for number, photo in enumerate(photos):
        count(step, number, len(photos))
        yield to_input(decode(photo), manifest)

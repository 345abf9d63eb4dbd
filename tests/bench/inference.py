"""The inference stage with IS-Net, against a bare loop around onnxruntime and against rembg.

The loops are as many processes as the stage has children, each with one thread.  The bare loop
uses the same model, decoding and encoding, and nothing else; rembg uses the same weights in
single precision, in an environment of its own.  All process the same photos, in turn, in one run.

First the stage alone (`stage_alone.py`); then end to end, with the other stages, a producer and
a subscriber on the same cores, against the bare loop again.

BENCH_ROUNDS and BENCH_IMAGES make it smaller, for a trial.
"""

import os
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage
from PIL import Image

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.stages.inference.models.install.build_choice import iou, multiplies_bytes
from erasestream.pipeline.stages.inference.models.install.trial import CPUINFO
from erasestream.pipeline.stages.inference.models.store import Installed, ModelStore
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import UploadId
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.bench import reference_loops
from tests.bench.figures import Figure, figure
from tests.bench.reference_loops import LoopRound
from tests.bench.results import take_results
from tests.bench.running_pipeline import SHOP, pipeline, start
from tests.bench.stage_alone import StageAlone, StageRound
from tests.faults.memory_watch import MemoryWatch
from tests.paths import CACHE

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IMAGES = int(os.environ.get("BENCH_IMAGES", "64"))
WARM_UP = 32
"""Photos at most: by then Java has compiled the broker's hot code."""
CORES = len(os.sched_getaffinity(0))
WIDTH, HEIGHT = 1632, 1224
"""Two megapixels."""
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png")
WAIT_S = 900.0


def measure() -> Iterator[Figure]:
    """Measure images per second, their ratios round by round, similarity and memory."""
    model = ModelStore(CACHE / "models").find("isnet")
    label = model.manifest.label
    with (
        tempfile.TemporaryDirectory() as name,
        pipeline(models=CACHE / "models", model=label, partitions=2, stages=("infer",)) as stack,
    ):
        folder = Path(name)
        files = two_megapixels(folder, IMAGES)
        alone = StageAlone(stack)
        with MemoryWatch(stack.running()["infer"]) as watch:
            alone.round([file.read_bytes() for file in files[:WARM_UP]])
        rounds = _run_alone(alone, model, files, folder)
        yield from _speed_alone(rounds)
        yield from _core_time(rounds)
        yield from _similarity_and_memory(rounds, files, folder, watch)
        start(stack, ("route", "sink"))
        rates = yield from _end_to_end(stack, model, files, folder / "bare", alone.sent)
    yield figure("inference.end_to_end_ratio_to_rembg", _ratios(rates, rounds.rembg), "ratio")


class _Rounds(NamedTuple):
    """Rounds of the stage alone and of the loops, in turn."""

    stage: list[StageRound]
    bare: list[LoopRound]
    tuned: list[LoopRound]
    """The bare loop with huge pages."""
    rembg: list[LoopRound]

    @property
    def stage_rates(self) -> list[float]:
        """Images per second of the stage."""
        return [IMAGES / each.elapsed_s for each in self.stage]


def _run_alone(alone: StageAlone, model: Installed, files: list[Path], folder: Path) -> _Rounds:
    photos = [file.read_bytes() for file in files]
    python = reference_loops.rembg_python()
    weights = reference_loops.rembg_weights(folder / "weights")
    ours, theirs = folder / "bare", folder / "rembg"
    ours.mkdir()
    theirs.mkdir()
    rounds = _Rounds([], [], [], [])
    for _ in range(ROUNDS):
        alone.round(photos[: 2 * CORES])  # as the loops do before they report ready
        rounds.stage.append(alone.round(photos))
        rounds.bare.append(reference_loops.bare(model, files, ours))
        rounds.tuned.append(reference_loops.bare(model, files, ours, reference_loops.HUGE_PAGES))
        rounds.rembg.append(reference_loops.rembg(python, weights, files, theirs))
    return rounds


def _speed_alone(rounds: _Rounds) -> Iterator[Figure]:
    rates = rounds.stage_rates
    yield figure("inference.stage_images_per_s", rates, "1/s")
    yield figure("inference.bare_images_per_s", [each.images_per_s for each in rounds.bare], "1/s")
    yield figure(
        "inference.rembg_images_per_s", [each.images_per_s for each in rounds.rembg], "1/s"
    )
    to_bare, to_tuned = _ratios(rates, rounds.bare), _ratios(rates, rounds.tuned)
    yield figure("inference.ratio_to_bare_onnxruntime", to_bare, "ratio", at_least=0.9)
    yield figure("inference.ratio_to_bare_onnxruntime_with_huge_pages", to_tuned, "ratio")
    yield figure(
        "inference.ratio_to_rembg",
        _ratios(rates, rounds.rembg),
        "ratio",
        at_least=2.5 if multiplies_bytes(CPUINFO.read_text()) else None,
    )


def _similarity_and_memory(
    rounds: _Rounds, files: list[Path], folder: Path, watch: MemoryWatch
) -> Iterator[Figure]:
    names = [f"{file.stem}.png" for file in files]
    worst = min(_similarity(folder / "bare" / name, folder / "rembg" / name) for name in names)
    yield Figure("inference.iou_with_rembg", round(worst, 4), "IoU", ">= 0.98", worst >= 0.98)
    peak = max(each.peak_mb for each in rounds.rembg)
    yield Figure("inference.rss_mb", round(watch.child_mb, 1), "MB")
    yield Figure("inference.worker_rss_mb", round(watch.worker_mb, 1), "MB")
    yield Figure("inference.rembg_rss_mb", round(peak, 1), "MB")
    yield figure("inference.rss_ratio_to_rembg", [watch.child_mb / peak], "ratio", at_most=0.5)


def _core_time(rounds: _Rounds) -> Iterator[Figure]:
    """Yield core milliseconds per image: in total, of each process, and the rest."""
    stage, bare = rounds.stage, rounds.bare
    whole = [each.elapsed_s * CORES * 1000 / IMAGES for each in stage]
    parts = {name: [each.cpu_s[name] * 1000 / IMAGES for each in stage] for name in stage[0].cpu_s}
    rest = [total - sum(used) for total, *used in zip(whole, *parts.values(), strict=True)]
    for name, values in {"whole": whole, **parts, "rest": rest}.items():
        yield figure(f"inference.stage_core_ms.{name}", values, "ms")
    yield figure(
        "inference.bare_core_ms.whole", [CORES * 1000 / each.images_per_s for each in bare], "ms"
    )
    yield figure("inference.bare_core_ms.cpu", [each.cpu_ms for each in bare], "ms")


def _end_to_end(
    stack: Stack, model: Installed, files: list[Path], output: Path, before: set[UploadId]
) -> Generator[Figure, None, list[float]]:
    """Compare with the bare loop in turn; return images per second."""
    photos = [file.read_bytes() for file in files]
    with (
        ResultSubscription(stack.cluster, SHOP, group="bench") as results,
        UploadProducer(stack.cluster, SHOP) as producer,
    ):
        _images_per_s(producer, results, photos[:WARM_UP], before)
        rates, bare = [], []
        for _ in range(ROUNDS):
            _images_per_s(producer, results, photos[: 2 * CORES])
            rates.append(_images_per_s(producer, results, photos))
            bare.append(reference_loops.bare(model, files, output))
    yield figure("inference.images_per_s", rates, "1/s")
    yield figure("inference.end_to_end_ratio_to_bare_onnxruntime", _ratios(rates, bare), "ratio")
    return rates


def two_megapixels(folder: Path, count: int) -> list[Path]:
    """Write JPEG files of photos of two megapixels."""
    data = Path(skimage.__file__).parent / "data"
    files = []
    for number in range(count):
        file = folder / f"{number}.jpg"
        picture = Image.open(data / NAMES[number % len(NAMES)]).convert("RGB")
        picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
        files.append(file)
    return files


def _images_per_s(
    producer: UploadProducer,
    results: ResultSubscription,
    photos: list[bytes],
    before: Iterable[UploadId] = (),
) -> float:
    """Return images per second, until these photos and the uploads of `before` have results."""
    started_s = time.monotonic()
    futures = [producer.send(photo, account="acct") for photo in photos]
    wanted = {future.result().upload_id for future in futures}.union(before)
    take_results(wanted, results, timeout_s=WAIT_S, on_result=_require_cutout)
    return len(photos) / (time.monotonic() - started_s)


def _require_cutout(event: Cutout | Failure) -> None:
    if not isinstance(event, Cutout):
        raise ErasestreamError(f"a photo failed: {event.code}")


def _ratios(rates: Sequence[float], limits: Sequence[LoopRound]) -> list[float]:
    return [ours / limit.images_per_s for ours, limit in zip(rates, limits, strict=True)]


def _similarity(one: Path, other: Path) -> float:
    """Return the IoU of the alpha channels of two cut-outs."""
    a, b = (np.asarray(Image.open(file), np.float32)[..., 3] / 255 for file in (one, other))
    return iou(a, b)

"""The inference stage with IS-Net: against a bare loop around onnxruntime, and against rembg.

The loops are as many processes as the stage has children, each with one thread.  The bare one
has the same model, decoding and encoding, and nothing else; rembg has the same weights in
single precision, in an environment of its own.  All see the same photos, in turn, in one run.

First the stage alone, as `stage_alone.py` has it; then from end to end, with the other stages,
a producer and a subscriber on the same cores, against the bare loop again.

BENCH_ROUNDS and BENCH_IMAGES make it smaller, to try it out.
"""

import os
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.stages.inference.models.install.build_choice import iou, multiplies_bytes
from erasestream.pipeline.stages.inference.models.install.trial import CPUINFO
from erasestream.pipeline.stages.inference.models.store import Installed, ModelStore
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.images import Cutout
from erasestream.schemas.ids import UploadId
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.bench import reference_loops
from tests.bench.figures import Figure, figure
from tests.bench.running_pipeline import CACHE, SHOP, pipeline, start
from tests.bench.stage_alone import StageAlone, StageRound
from tests.faults.memory_watch import MemoryWatch

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IMAGES = int(os.environ.get("BENCH_IMAGES", "64"))
WARM_UP = 32
"""Photos, at most: by then Java has compiled what the broker runs all the time."""
CORES = len(os.sched_getaffinity(0))
WIDTH, HEIGHT = 1632, 1224
"""Two megapixels."""
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png")
WAIT_S = 900.0


def measure() -> Iterator[Figure]:
    """Images per second of all, their ratios round by round, likeness, memory."""
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
        rembg = yield from _alone(alone, model, files, folder, watch)
        start(stack, ("route", "sink"))
        rates = yield from _end_to_end(stack, model, files, folder / "bare", alone.sent)
    yield figure("inference.end_to_end_ratio_to_rembg", _ratios(rates, rembg), "ratio")


def _alone(
    alone: StageAlone, model: Installed, files: list[Path], folder: Path, watch: MemoryWatch
) -> Generator[Figure, None, list[reference_loops.Round]]:
    """Against the loops in turn; returns the rounds of rembg."""
    photos = [file.read_bytes() for file in files]
    python, weights = (
        reference_loops.rembg_python(),
        reference_loops.rembg_weights(folder / "weights"),
    )
    seen, theirs = folder / "bare", folder / "rembg"
    seen.mkdir()
    theirs.mkdir()
    stage, bare, tuned, rembg = [], [], [], []
    for _ in range(ROUNDS):
        alone.round(photos[: 2 * CORES])  # as the loops do before they say that they are ready
        stage.append(alone.round(photos))
        bare.append(reference_loops.bare(model, files, seen))
        tuned.append(reference_loops.bare(model, files, seen, reference_loops.HUGE_PAGES))
        rembg.append(reference_loops.rembg(python, weights, files, theirs))
    rates = [len(photos) / each.elapsed_s for each in stage]
    yield figure("inference.stage_images_per_s", rates, "1/s")
    yield figure("inference.bare_images_per_s", [each.images_per_s for each in bare], "1/s")
    yield figure("inference.rembg_images_per_s", [each.images_per_s for each in rembg], "1/s")
    yield figure("inference.ratio_to_bare_onnxruntime", _ratios(rates, bare), "ratio", at_least=0.9)
    yield figure(
        "inference.ratio_to_bare_onnxruntime_with_huge_pages", _ratios(rates, tuned), "ratio"
    )
    yield figure(
        "inference.ratio_to_rembg",
        _ratios(rates, rembg),
        "ratio",
        at_least=2.5 if multiplies_bytes(CPUINFO.read_text()) else None,
    )
    yield from _where_time_goes(stage, bare, len(photos))
    worst = min(_likeness(seen / f"{f.stem}.png", theirs / f"{f.stem}.png") for f in files)
    yield Figure("inference.iou_with_rembg", round(worst, 4), "IoU", ">= 0.98", worst >= 0.98)
    peak = max(each.peak_mb for each in rembg)
    yield Figure("inference.rss_mb", round(watch.child_mb, 1), "MB")
    yield Figure("inference.worker_rss_mb", round(watch.worker_mb, 1), "MB")
    yield Figure("inference.rembg_rss_mb", round(peak, 1), "MB")
    yield figure("inference.rss_ratio_to_rembg", [watch.child_mb / peak], "ratio", at_most=0.5)
    return rembg


def _where_time_goes(
    stage: list[StageRound], bare: list[reference_loops.Round], photos: int
) -> Iterator[Figure]:
    """Milliseconds of a core for an image: the whole, each process, and what none of them had."""
    whole = [each.elapsed_s * CORES * 1000 / photos for each in stage]
    parts = {name: [each.cpu_s[name] * 1000 / photos for each in stage] for name in stage[0].cpu_s}
    rest = [total - sum(used) for total, *used in zip(whole, *parts.values(), strict=True)]
    for name, values in {"whole": whole, **parts, "rest": rest}.items():
        yield figure(f"inference.stage_core_ms.{name}", values, "ms")
    yield figure(
        "inference.bare_core_ms.whole", [CORES * 1000 / each.images_per_s for each in bare], "ms"
    )
    yield figure("inference.bare_core_ms.cpu", [each.cpu_ms for each in bare], "ms")


def _end_to_end(
    stack: Stack, model: Installed, files: list[Path], seen: Path, before: set[UploadId]
) -> Generator[Figure, None, list[float]]:
    """Against the bare loop in turn; returns images per second."""
    photos = [file.read_bytes() for file in files]
    with (
        ResultSubscription(stack.cluster, SHOP, group="bench") as results,
        UploadProducer(stack.cluster, SHOP) as producer,
    ):
        _sent_and_taken(producer, results, photos[:WARM_UP], before)
        rates, bare = [], []
        for _ in range(ROUNDS):
            _sent_and_taken(producer, results, photos[: 2 * CORES])
            rates.append(_sent_and_taken(producer, results, photos))
            bare.append(reference_loops.bare(model, files, seen))
    yield figure("inference.images_per_s", rates, "1/s")
    yield figure("inference.end_to_end_ratio_to_bare_onnxruntime", _ratios(rates, bare), "ratio")
    return rates


def two_megapixels(folder: Path, count: int) -> list[Path]:
    """JPEG files of photos of that size."""
    data = Path(skimage.__file__).parent / "data"
    files = []
    for number in range(count):
        file = folder / f"{number}.jpg"
        picture = Image.open(data / NAMES[number % len(NAMES)]).convert("RGB")
        picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
        files.append(file)
    return files


def _sent_and_taken(
    producer: UploadProducer,
    results: ResultSubscription,
    photos: list[bytes],
    before: Iterable[UploadId] = (),
) -> float:
    """Images per second, until their cut-outs are there and those of the uploads of `before`."""
    started = time.monotonic()
    futures = [producer.send(photo, account="acct") for photo in photos]
    wanted = {future.result().upload_id for future in futures}.union(before)
    while wanted and time.monotonic() - started < WAIT_S:
        delivery = results.poll(0.1)
        if delivery is None:
            continue
        event = delivery.event
        if not isinstance(event, Cutout):
            raise ErasestreamError(f"a photo failed: {event.code}")
        wanted.discard(event.id)
        delivery.ack()
    if wanted:
        raise ErasestreamError(f"{len(wanted)} results did not come")
    return len(photos) / (time.monotonic() - started)


def _ratios(rates: Sequence[float], limits: Sequence[reference_loops.Round]) -> list[float]:
    return [ours / limit.images_per_s for ours, limit in zip(rates, limits, strict=True)]


def _likeness(one: Path, other: Path) -> float:
    """IoU of the alpha channels of two cut-outs."""
    a, b = (np.asarray(Image.open(file), np.float32)[..., 3] / 255 for file in (one, other))
    return iou(a, b)

"""The inference stage with IS-Net: against a bare loop around onnxruntime, and against rembg.

The loops are as many processes as the stage has children, each with one thread.  The bare one
has the same model, decoding and encoding, and nothing else; rembg has the same weights in
single precision, in an environment of its own.  All see the same photos, in turn, in one run.

BENCH_ROUNDS and BENCH_IMAGES make it smaller, to try it out.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from erasestream.pipeline.inference.manifest import ModelStore
from erasestream.pipeline.inference.model_choice import iou, multiplies_bytes
from erasestream.pipeline.inference.model_trial import CPUINFO
from erasestream.pipeline.local.stack import Stack
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events import Cutout
from erasestream.topics.producer import UploadProducer
from erasestream.topics.subscription import ResultSubscription
from tests.bench import loops
from tests.bench.figures import Figure, figure
from tests.bench.running import CACHE, SHOP, pipeline
from tests.faults.memory import MemoryWatch

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IMAGES = int(os.environ.get("BENCH_IMAGES", "32"))
WIDTH, HEIGHT = 1632, 1224
"""Two megapixels."""
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png")
WAIT_S = 600.0


def measure() -> Iterator[Figure]:
    """Images per second of all three, their ratios round by round, likeness, memory."""
    model = ModelStore(CACHE / "models").find("isnet")
    python = loops.rembg_python()
    with (
        tempfile.TemporaryDirectory() as name,
        pipeline(models=CACHE / "models", model=model.manifest.label, partitions=2) as stack,
    ):
        folder = Path(name)
        files = two_megapixels(folder, IMAGES)
        weights = loops.rembg_weights(folder / "weights")
        seen, theirs = folder / "bare", folder / "rembg"
        seen.mkdir()
        theirs.mkdir()
        _stage(stack, files[:2], "warm-up")
        with MemoryWatch(stack.running()["infer"]) as watch:
            stage = []
            bare, rembg = [], []
            for number in range(ROUNDS):
                stage.append(_stage(stack, files, f"round-{number}"))
                bare.append(loops.bare(model, files, seen))
                rembg.append(loops.rembg(python, weights, files, theirs))
        likeness = [_likeness(seen / f"{f.stem}.png", theirs / f"{f.stem}.png") for f in files]
    rates, idle = [rate for rate, _ in stage], [share for _, share in stage]
    yield figure("inference.images_per_s", rates, "1/s")
    yield figure("inference.bare_images_per_s", [each.images_per_s for each in bare], "1/s")
    yield figure("inference.rembg_images_per_s", [each.images_per_s for each in rembg], "1/s")
    yield figure(
        "inference.ratio_to_bare_onnxruntime",
        [ours / limit.images_per_s for ours, limit in zip(rates, bare, strict=True)],
        "ratio",
        at_least=0.90,
    )
    yield figure("inference.share_outside_children", idle, "ratio")
    yield figure(
        "inference.ratio_to_rembg",
        [ours / peer.images_per_s for ours, peer in zip(rates, rembg, strict=True)],
        "ratio",
        at_least=2.5 if multiplies_bytes(CPUINFO.read_text()) else None,
    )
    worst = min(likeness)
    yield Figure("inference.iou_with_rembg", round(worst, 4), "IoU", ">= 0.98", worst >= 0.98)
    peak = max(each.peak_mb for each in rembg)
    yield Figure("inference.rss_mb", round(watch.child_mb, 1), "MB")
    yield Figure("inference.worker_rss_mb", round(watch.worker_mb, 1), "MB")
    yield Figure("inference.rembg_rss_mb", round(peak, 1), "MB")
    yield figure("inference.rss_ratio_to_rembg", [watch.child_mb / peak], "ratio", at_most=0.5)


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


def _stage(stack: Stack, files: list[Path], group: str) -> tuple[float, float]:
    """Images per second, and the share of the cores' time that no child worked on an image."""
    photos = [file.read_bytes() for file in files]
    busy_s = 0.0
    with (
        ResultSubscription(stack.cluster, SHOP, group=group) as results,
        UploadProducer(stack.cluster, SHOP) as producer,
    ):
        started = time.monotonic()
        futures = [producer.send(photo, account="acct") for photo in photos]
        wanted = {future.result().upload_id for future in futures}
        while wanted and time.monotonic() - started < WAIT_S:
            delivery = results.poll(0.1)
            if delivery is None:
                continue
            event = delivery.event
            if event.id in wanted:
                if not isinstance(event, Cutout):
                    raise ErasestreamError(f"a photo failed: {event.code}")
                busy_s += sum(event.steps_ms.values()) / 1000
                wanted.discard(event.id)
            delivery.ack()
        elapsed_s = time.monotonic() - started
    if wanted:
        raise ErasestreamError(f"{len(wanted)} results did not come")
    cores = len(os.sched_getaffinity(0))
    return len(photos) / elapsed_s, 1 - busy_s / (elapsed_s * cores)


def _likeness(one: Path, other: Path) -> float:
    """IoU of the alpha channels of two cut-outs."""
    a, b = (np.asarray(Image.open(file), np.float32)[..., 3] / 255 for file in (one, other))
    return iou(a, b)

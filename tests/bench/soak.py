"""Memory growth: many images through one pool, and many uploads waiting for one worker.

* 2,000 mixed images (valid ones of all formats and a few megapixels, damaged ones, refused ones)
  through `ProcessPool` with the tiny model.  The slope of resident memory over the images, after
  the first tenth, is a least-squares line; for the worker, which is this process, and for each
  process that lives from the first image to the last (the zygote, or long-lived children).
* 4,000 uploads of 2 MB that are in the topic before the worker starts: its peak memory.

`SOAK_IMAGES` and `SOAK_UPLOADS` make both smaller.
"""

import asyncio
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import linear_regression

import psutil

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import InvalidImage
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.catalog.topic_names import cutouts_of
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.bench.figures import Figure
from tests.bench.running_pipeline import SHOP
from tests.bench.soak_plot import Series, draw
from tests.faults.hostile_images import case, valid
from tests.faults.inference_stack import (
    PARTITIONS,
    inference_servers,
    start_worker,
)
from tests.faults.memory_watch import MemoryWatch, resident_mb
from tests.paths import ROOT
from tests.pipeline.stages.inference.pictures import gradient, saved
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

IMAGES = int(os.environ.get("SOAK_IMAGES", "2000"))
UPLOADS = int(os.environ.get("SOAK_UPLOADS", "4000"))
UPLOAD_BYTES = 2_000_000
EVERY = 10
SLOPE_MB = 1.0
"""Per 1,000 images."""
WAITING_MB = 1000.0
SEED = 4
WAIT_S = 900.0
PLOT = ROOT / "docs" / "pictures" / "soak.svg"


def measure() -> Iterator[Figure]:
    """Yield the slopes, with a plot in docs/pictures, and the peak."""
    with tempfile.TemporaryDirectory() as folder:
        model = Installed.read(build_tiny_model(Path(folder)))
        series = asyncio.run(_soak(model))
    if IMAGES >= 2000:
        PLOT.write_text(draw(series))
    for each in series:
        slope = _slope(each)
        name = f"soak.slope_mb_per_1000.{each.name}"
        yield Figure(name, round(slope, 3), "MB", f"<= {SLOPE_MB:g}", slope <= SLOPE_MB)
        yield Figure(f"soak.rss_mb.{each.name}", round(max(mb for _, mb in each.points), 1), "MB")
    peak = _waiting_uploads()
    yield Figure("soak.waiting_uploads", UPLOADS, "1")
    yield Figure(
        "soak.waiting_rss_mb.worker", round(peak, 1), "MB", f"<= {WAITING_MB:g}", peak <= WAITING_MB
    )


def _mixed() -> list[bytes]:
    """Return a hundred files, to be repeated, so that memory grows only by leaks."""
    dice = random.Random(SEED)
    hostile = [
        each.data
        for each in (case(SEED, n) for n in range(60))
        # These run for seconds each, and show nothing here.
        if not each.name.endswith(("many scans", "within the limit"))
    ]
    photos = [
        saved(gradient(dice.randint(300, 2000), dice.randint(300, 1200)), kind)
        for kind in ("JPEG", "PNG", "WEBP") * 4
    ]
    return hostile + photos + [valid(dice)[0] for _ in range(100 - len(hostile) - len(photos))]


async def _soak(model: Installed) -> list[Series]:
    pool = ProcessPool(model=model, children=2)
    await pool.start()
    files, worker = _mixed(), psutil.Process()
    worker_points: list[tuple[int, float]] = []
    points_of_child: dict[int, list[tuple[int, float]]] = {}
    try:
        for done in range(0, IMAGES, EVERY):
            batch = (files[n % len(files)] for n in range(done, done + EVERY))
            await asyncio.gather(*(_cut_out(pool, file) for file in batch))
            count, worker_mb = done + EVERY, resident_mb(worker)
            worker_points.append((count, worker_mb))
            for child in worker.children():
                points_of_child.setdefault(child.pid, []).append((count, resident_mb(child)))
            sys.stderr.write(f"\r{count} images, worker {worker_mb:.0f} MB ")
        alive = {child.pid for child in worker.children()}
    finally:
        await pool.close()
    sys.stderr.write("\n")
    lasting = [
        points for pid, points in points_of_child.items() if pid in alive and points[0][0] == EVERY
    ]
    if not lasting:
        raise RuntimeError("no child of the worker lived from the first image to the last")
    names = ["zygote"] if len(lasting) == 1 else [f"child-{n + 1}" for n in range(len(lasting))]
    children = [Series(name, points) for name, points in zip(names, lasting, strict=True)]
    return [Series("worker", worker_points), *children]


async def _cut_out(pool: ProcessPool, file: bytes) -> None:
    with suppress(InvalidImage):
        await pool.cut_out(file, CutoutOptions())


def _slope(series: Series) -> float:
    """Return MB per 1,000 images, after the first tenth."""
    settled = [(done, mb) for done, mb in series.points if done > IMAGES / 10]
    return linear_regression(*zip(*settled, strict=True)).slope * 1000


def _waiting_uploads() -> float:
    """Return the worker's peak memory in MB while it processes the uploads that waited."""
    with tempfile.TemporaryDirectory() as folder, inference_servers(Path(folder)) as stack:
        _send(stack)
        start_worker(stack)
        with MemoryWatch(stack.running()["infer"]) as memory:
            _wait_for_all(stack)
    return memory.worker_mb


def _send(stack: Stack) -> None:
    photo = _photo_of(UPLOAD_BYTES)
    with UploadProducer(stack.cluster, SHOP) as producer:
        for number in range(UPLOADS):
            producer.send(photo, account="acct")
            if number % 100 == 0:
                sys.stderr.write(f"\r{number} uploads sent ")


def _photo_of(size: int) -> bytes:
    """Return a small photo after 2 MB of previews, as cameras write it: to measure reading."""
    file = io.BytesIO()
    gradient(640, 480).save(file, "JPEG", quality=85)
    small = file.getvalue()
    segment = b"\xff\xe5\xff\xff" + random.Random(SEED).randbytes(65_533)
    return small[:2] + segment * ((size - len(small)) // len(segment)) + small[2:]


def _wait_for_all(stack: Stack) -> None:
    offsets = OffsetQueries(Admin(stack.admin()))
    partitions = [Partition(cutouts_of(SHOP), number) for number in range(PARTITIONS)]
    deadline = Deadline(WAIT_S, time.monotonic)
    while (count := sum(offsets.log_ends(partitions).values())) < UPLOADS:
        sys.stderr.write(f"\r{count} of {UPLOADS} uploads answered ")
        if deadline.has_passed or stack.stage("infer").process_id is None:
            raise RuntimeError(f"{UPLOADS - count} uploads were not answered")
        time.sleep(0.5)
    sys.stderr.write(f"\r{count} of {UPLOADS} uploads answered \n")

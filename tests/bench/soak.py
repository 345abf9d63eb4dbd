"""Whether memory grows: many images through one pool, and many uploads waiting for one worker.

* 2,000 mixed images (good ones of all formats and a few megapixels, damaged ones, refused ones)
  through `ProcessPool` with the tiny model.  The slope of resident memory over the images, after
  the first tenth, is a least-squares line; of the worker, which is this process, and of each
  process that was there at that image and lives to the end (the zygote, or long-lived children).
* 4,000 uploads of 2 MB that lie in the topic before the worker starts: its peak.

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
from confluent_kafka import Consumer, TopicPartition

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import InvalidImage
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.catalog.topic_names import cutouts_of
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from tests.bench.figures import ROOT, Figure
from tests.bench.running_pipeline import SHOP
from tests.bench.soak_plot import Series, drawn
from tests.faults.hostile import PARTITIONS, servers, start_worker
from tests.faults.hostile_images import case, valid
from tests.faults.memory_watch import MemoryWatch, resident_mb
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
    """The slopes, with a plot in docs/pictures, and the peak."""
    with tempfile.TemporaryDirectory() as folder:
        model = Installed.read(build_tiny_model(Path(folder)))
        series = asyncio.run(_soak(model))
    if IMAGES >= 2000:
        PLOT.write_text(drawn(series))
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
    """A hundred files; the same ones come again, so that only leaks grow."""
    dice = random.Random(SEED)
    hostile = [
        each.data
        for each in (case(SEED, n) for n in range(60))
        # These run for seconds each, and prove nothing here.
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
    files, seen, worker = _mixed(), {}, psutil.Process()
    lasting: dict[int, list[tuple[int, float]]] = {}
    try:
        for done in range(0, IMAGES, EVERY):
            batch = (files[n % len(files)] for n in range(done, done + EVERY))
            await asyncio.gather(*(_cut_out(pool, file) for file in batch))
            seen[done + EVERY] = resident_mb(worker)
            for child in worker.children():
                lasting.setdefault(child.pid, []).append((done + EVERY, resident_mb(child)))
            sys.stderr.write(f"\r{done + EVERY} images, worker {seen[done + EVERY]:.0f} MB ")
        alive = {child.pid for child in worker.children()}
    finally:
        await pool.close()
    sys.stderr.write("\n")
    whole = [points for pid, points in lasting.items() if pid in alive and points[0][0] == EVERY]
    if not whole:
        raise RuntimeError("no process below the worker lived from the first image to the last")
    names = ["zygote"] if len(whole) == 1 else [f"child-{n + 1}" for n in range(len(whole))]
    below = [Series(name, points) for name, points in zip(names, whole, strict=True)]
    return [Series("worker", list(seen.items())), *below]


async def _cut_out(pool: ProcessPool, file: bytes) -> None:
    with suppress(InvalidImage):
        await pool.cut_out(file, CutoutOptions())


def _slope(series: Series) -> float:
    """MB per 1,000 images, after the first tenth."""
    settled = [(done, mb) for done, mb in series.points if done > IMAGES / 10]
    return linear_regression(*zip(*settled, strict=True)).slope * 1000


def _waiting_uploads() -> float:
    """The worker's peak in MB, while it works off what waited for it."""
    with tempfile.TemporaryDirectory() as folder:
        stack = servers(Path(folder))
        try:
            _send(stack)
            start_worker(stack)
            with MemoryWatch(stack.running()["infer"]) as memory:
                _wait_for_all(stack)
        finally:
            stack.stop()
    return memory.worker_mb


def _send(stack: Stack) -> None:
    photo = _photo_of(UPLOAD_BYTES)
    with UploadProducer(stack.cluster, SHOP) as producer:
        for number in range(UPLOADS):
            producer.send(photo, account="acct")
            if number % 100 == 0:
                sys.stderr.write(f"\r{number} uploads sent ")


def _photo_of(size: int) -> bytes:
    """A small photo behind 2 MB of previews, as cameras write them: reading counts, not cutting."""
    file = io.BytesIO()
    gradient(640, 480).save(file, "JPEG", quality=85)
    small = file.getvalue()
    segment = b"\xff\xe5\xff\xff" + random.Random(SEED).randbytes(65_533)
    return small[:2] + segment * ((size - len(small)) // len(segment)) + small[2:]


def _wait_for_all(stack: Stack) -> None:
    settings = Connection(cluster=stack.cluster, role=ADMIN).settings(ClientErrorState())
    consumer = Consumer(settings | {"group.id": "soak", "enable.auto.commit": False})
    end = time.monotonic() + WAIT_S
    try:
        while True:
            ends = [
                consumer.get_watermark_offsets(TopicPartition(cutouts_of(SHOP), n), timeout=20)
                for n in range(PARTITIONS)
            ]
            there = sum(high for _low, high in ends)
            sys.stderr.write(f"\r{there} of {UPLOADS} uploads answered ")
            if there >= UPLOADS:
                sys.stderr.write("\n")
                return
            if time.monotonic() > end or stack.stage("infer").process_id is None:
                raise RuntimeError(f"{UPLOADS - there} uploads were not answered")
            time.sleep(0.5)
    finally:
        consumer.close()

"""The whole pipeline with a tiny model: the limits of Kafka, the stages and the codecs."""

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

import skimage
from PIL import Image

from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.clocks import Deadline
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.bench.figures import Figure, figure
from tests.bench.results import take_results
from tests.bench.running_pipeline import BULK, SHOP, peak_rss_mb, pipeline
from tests.faults.memory_watch import MemoryWatch
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

ROUNDS = 3
UPLOADS = 300
RATE = 5
LATENCIES = 150
WAIT_S = 120.0


def measure() -> Iterator[Figure]:
    """Measure throughput, latency and memory."""
    photo = a_photo()
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_model(Path(folder))
        with pipeline(models=Path(folder), model="tiny") as stack:
            _round(stack, photo, 20)
            with MemoryWatch(stack.running()["infer"]) as watch:
                rates = [_round(stack, photo, UPLOADS) for _ in range(ROUNDS)]
            latencies = _latencies(stack, photo)
            peaks = peak_rss_mb(stack) | {"child": watch.child_mb}
    yield figure("pipeline.uploads_per_s", rates, "1/s")
    cuts = quantiles(latencies, n=100)
    for name, value in (("p50", cuts[49]), ("p99", cuts[98])):
        yield Figure(f"pipeline.latency_{name}_ms", round(value, 1), "ms", n=len(latencies))
    for name, peak in sorted(peaks.items()):
        yield Figure(f"pipeline.rss_mb.{name}", round(peak, 1), "MB")


def a_photo() -> bytes:
    """Return a JPEG of about 100 KB: a real photo, 900 x 600."""
    file = io.BytesIO()
    picture = Image.open(Path(skimage.__file__).parent / "data" / "coffee.png").convert("RGB")
    picture.resize((900, 600), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return file.getvalue()


def _round(stack: Stack, photo: bytes, count: int) -> float:
    """Return uploads per second over both lanes, from the first upload to the last result."""
    with (
        # The same group in each round: a new one would receive all earlier results again.
        ResultSubscription(stack.cluster, SHOP, group="rounds") as shop,
        ResultSubscription(stack.cluster, BULK, group="rounds") as bulk,
        UploadProducer(stack.cluster, SHOP) as to_shop,
        UploadProducer(stack.cluster, BULK) as to_bulk,
    ):
        started_s = time.monotonic()
        futures = [
            producer.send(photo, account="acct", reference=str(n))
            for n in range(count // 2)
            for producer in (to_shop, to_bulk)
        ]
        wanted = {future.result().upload_id for future in futures}
        take_results(wanted, shop, bulk, timeout_s=WAIT_S, poll_s=0.02)
        return len(futures) / (time.monotonic() - started_s)


def _latencies(stack: Stack, photo: bytes) -> list[float]:
    """Return milliseconds from the append of each upload to the receipt of its result."""
    found: list[float] = []
    with (
        ResultSubscription(stack.cluster, SHOP, group="latency") as results,
        UploadProducer(stack.cluster, SHOP) as producer,
    ):
        while (old := results.poll(2.0)) is not None:
            old.ack()
        started_s, deadline = time.monotonic(), Deadline(WAIT_S, time.monotonic)
        sent = 0
        while len(found) < LATENCIES and not deadline.has_passed:
            if sent < LATENCIES and time.monotonic() >= started_s + sent / RATE:
                producer.send(photo, account="acct")
                sent += 1
            delivery = results.poll(0.005)
            if delivery is not None:
                age_s = time.time() - delivery.event.uploaded_at.timestamp()
                found.append(age_s * 1000)
                delivery.ack()
    return found

"""The inference stage with IS-Net, against a bare loop around onnxruntime.

The bare loop is as many processes as the stage has children, each with one thread: the same
decoding, model and encoding, without Kafka, without a pool, without a worker.  Both see the
same photos, in turn, in one run.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import skimage
from PIL import Image

from erasestream.pipeline.local.stack import Stack
from erasestream.topics.producer import UploadProducer
from erasestream.topics.subscription import ResultSubscription
from tests.bench.figures import Figure, figure
from tests.bench.running import CACHE, SHOP, pipeline
from tests.faults.memory import MemoryWatch

ROUNDS = 3
IMAGES = 8
WIDTH, HEIGHT = 1632, 1224
"""Two megapixels."""
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png")
WAIT_S = 300.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def measure() -> Iterator[Figure]:
    """Images per second of both, their ratio round by round, and memory."""
    photos = _photos()
    processes = len(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        pipeline(models=CACHE / "models", model="isnet", partitions=2) as stack,
    ):
        files = []
        for number, photo in enumerate(photos):
            file = Path(folder) / f"{number}.jpg"
            file.write_bytes(photo)
            files.append(file)
        stage, bare = [], []
        with MemoryWatch(stack.running()["infer"]) as watch:
            for number in range(ROUNDS):
                stage.append(_stage(stack, photos, f"round-{number}"))
                bare.append(_bare(files, processes))
    ratios = [ours / limit for ours, limit in zip(stage, bare, strict=True)]
    yield figure("inference.images_per_s", stage, "1/s")
    yield figure("inference.bare_images_per_s", bare, "1/s")
    yield figure("inference.ratio_to_bare_onnxruntime", ratios, "ratio")
    yield Figure("inference.rss_mb", round(watch.child_mb, 1), "MB")


def _photos() -> list[bytes]:
    data = Path(skimage.__file__).parent / "data"
    photos = []
    for name in NAMES:
        file = io.BytesIO()
        picture = Image.open(data / name).convert("RGB")
        picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
        photos.append(file.getvalue())
    return [photos[n % len(photos)] for n in range(IMAGES)]


def _stage(stack: Stack, photos: list[bytes], group: str) -> float:
    with (
        ResultSubscription(stack.cluster, SHOP, group=group) as results,
        UploadProducer(stack.cluster, SHOP) as producer,
    ):
        started = time.monotonic()
        futures = [producer.send(photo, account="acct") for photo in photos]
        wanted = {future.result().upload_id for future in futures}
        while wanted and time.monotonic() - started < WAIT_S:
            delivery = results.poll(0.1)
            if delivery is not None:
                wanted.discard(delivery.event.id)
                delivery.ack()
        if wanted:
            raise RuntimeError(f"{len(wanted)} results did not come")
        return len(photos) / (time.monotonic() - started)


def _bare(files: list[Path], processes: int) -> float:
    """The slowest process ends the round; loading the model is not counted."""
    shares = [files[n::processes] for n in range(processes)]
    command = [sys.executable, "-m", "tests.bench.bare_loop"]
    running = [
        subprocess.Popen(
            [*command, *map(str, share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD},
        )
        for share in shares
    ]
    try:
        for process in running:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        for process in running:
            assert process.stdin
            process.stdin.write(b"go\n")
            process.stdin.flush()
        for process in running:
            assert process.wait(WAIT_S) == 0
        return len(files) / (time.monotonic() - started)
    finally:
        for process in running:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe
                pipe.close()

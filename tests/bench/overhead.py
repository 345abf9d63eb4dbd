"""The cost of an image apart from the model.

* CPU time of each step for a photo of two megapixels, in one process, with a model of negligible
  size; and of its PNG by Pillow, with the default setting.
* CPU time of the stage's processes per image, with the broker: the worker (transport), the zygote
  (forking) and the children (the steps, and the cost of a process per image).
* An image in a child of its own against one in a long-lived child, with the installed IS-Net: a
  few in a row each, in turn.  In a row, as in a worker that has work to do: a virtual machine may
  return memory that is free for a second to its host, and getting it back is slow.
"""

import asyncio
import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import psutil
from PIL import Image

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed, ModelStore
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.bench.figures import Figure, figure
from tests.bench.inference import two_megapixels
from tests.bench.results import take_results
from tests.bench.running_pipeline import SHOP, pipeline
from tests.paths import CACHE
from tests.pipeline.stages.inference.tiny_model import build_crisp_model

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "10"))
IMAGES = int(os.environ.get("BENCH_IMAGES", "40"))
WAIT_S = 300.0
OPTIONS = CutoutOptions()


def measure() -> Iterator[Figure]:
    """Measure CPU milliseconds, and the ratio of both kinds of isolation."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = [file.read_bytes() for file in two_megapixels(folder, 4)]
        models = folder / "models"
        models.mkdir()
        tiny = Installed.read(build_crisp_model(models))
        yield from _steps(tiny, photos)
        with pipeline(models=models, model=tiny.manifest.label, partitions=2) as stack:
            yield from _processes(stack, photos)
    yield from asyncio.run(_isolation(ModelStore(CACHE / "models").find("isnet"), photos))


def _steps(model: Installed, photos: Sequence[bytes]) -> Iterator[Figure]:
    segmenter = Segmenter(model)
    elapsed_ms: dict[str, list[float]] = {}
    defaults = []
    for _ in range(ROUNDS):
        for photo in photos:
            cutout = cut_out_once(segmenter, photo, OPTIONS, clock=time.process_time)
            for step, ms in cutout.steps_ms.items():
                elapsed_ms.setdefault(step, []).append(ms)
            picture = Image.open(io.BytesIO(cutout.data))
            picture.load()
            begun_s = time.process_time()
            picture.save(io.BytesIO(), "PNG")
            defaults.append((time.process_time() - begun_s) * 1000)
    for step, values in elapsed_ms.items():
        yield figure(f"inference.own_ms_per_2mp.{step}", values, "ms")
    yield figure("inference.own_ms_per_2mp.encode_with_default_setting", defaults, "ms")


def _processes(stack: Stack, photos: Sequence[bytes]) -> Iterator[Figure]:
    worker = psutil.Process(stack.running()["infer"])
    _send(stack, photos)
    (zygote,) = worker.children()
    before = worker.cpu_times(), zygote.cpu_times()
    _send(stack, [photos[n % len(photos)] for n in range(IMAGES)])
    after = worker.cpu_times(), zygote.cpu_times()
    both = list(zip(before, after, strict=True))
    for name, (begin, end), fields in (
        ("transport", both[0], ("user", "system")),
        ("fork", both[1], ("user", "system")),
        ("child", both[1], ("children_user", "children_system")),
    ):
        spent_s = sum(getattr(end, each) - getattr(begin, each) for each in fields)
        yield Figure(f"inference.own_ms_per_2mp.{name}", round(spent_s * 1000 / IMAGES, 2), "ms")


def _send(stack: Stack, photos: Sequence[bytes]) -> None:
    """Send all photos through the stages and take their results."""
    with (
        ResultSubscription(stack.cluster, SHOP, group="own") as results,
        UploadProducer(stack.cluster, SHOP) as producer,
    ):
        futures = [producer.send(photo, account="acct") for photo in photos]
        wanted = {future.result().upload_id for future in futures}
        take_results(wanted, results, timeout_s=WAIT_S)


async def _isolation(model: Installed, photos: Sequence[bytes]) -> list[Figure]:
    pools = {each: ProcessPool(model=model, children=1, isolation=each) for each in Isolation}
    elapsed_ms: dict[Isolation, list[float]] = {each: [] for each in Isolation}
    try:
        for pool in pools.values():
            await pool.start()
            await pool.cut_out(photos[0], OPTIONS)
        for _ in range(ROUNDS):
            for isolation, pool in pools.items():
                for photo in photos:
                    begun_s = time.perf_counter()
                    await pool.cut_out(photo, OPTIONS)
                    elapsed_ms[isolation].append((time.perf_counter() - begun_s) * 1000)
    finally:
        for pool in pools.values():
            await pool.close()
    ratios = [
        one / other
        for one, other in zip(
            elapsed_ms[Isolation.PER_IMAGE], elapsed_ms[Isolation.LONG_LIVED], strict=True
        )
    ]
    return [
        *(figure(f"inference.{each}_ms", elapsed_ms[each], "ms") for each in Isolation),
        figure("inference.per_image_process_cost", ratios, "ratio", at_most=1.10),
        Figure("inference.per_image_extra_ms", round(_extra(elapsed_ms), 1), "ms"),
    ]


def _extra(elapsed_ms: dict[Isolation, list[float]]) -> float:
    return median(elapsed_ms[Isolation.PER_IMAGE]) - median(elapsed_ms[Isolation.LONG_LIVED])

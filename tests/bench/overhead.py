"""What our own work costs: everything about an image but the model.

* CPU time of each step for a photo of two megapixels, in one process, with a model so small
  that it does not count; and of its PNG by Pillow, with its default setting.
* Of the stage's processes, per image, with the broker: the worker (transport), the zygote
  (forking) and the children (the steps, and what a process of its own costs).
* An image in a child of its own against one in a child that lives on, with the installed IS-Net:
  a few in a row each, in turn.  In a row, as in a worker that has work to do: a virtual machine may
  give memory that is free for a second back to its host, and is slow when it takes it again.
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
from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed, ModelStore
from erasestream.pipeline.stages.inference.sandbox.restrictions import Isolation
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.bench.figures import Figure, figure
from tests.bench.inference import two_megapixels
from tests.bench.running_pipeline import CACHE, SHOP, pipeline
from tests.pipeline.stages.inference.tiny_model import build_crisp_model

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "10"))
IMAGES = int(os.environ.get("BENCH_IMAGES", "40"))
WAIT_S = 300.0
OPTIONS = CutoutOptions()


def measure() -> Iterator[Figure]:
    """CPU milliseconds, and the ratio of both kinds of isolation."""
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
    taken: dict[str, list[float]] = {}
    defaults = []
    for _ in range(ROUNDS):
        for photo in photos:
            cutout = cut_out_once(segmenter, photo, OPTIONS, clock=time.process_time)
            for step, ms in cutout.steps_ms.items():
                taken.setdefault(step, []).append(ms)
            picture = Image.open(io.BytesIO(cutout.data))
            picture.load()
            begun = time.process_time()
            picture.save(io.BytesIO(), "PNG")
            defaults.append((time.process_time() - begun) * 1000)
    for step, values in taken.items():
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
    """All of them through the stages, and their results taken."""
    with (
        ResultSubscription(stack.cluster, SHOP, group="own") as results,
        UploadProducer(stack.cluster, SHOP) as producer,
    ):
        futures = [producer.send(photo, account="acct") for photo in photos]
        wanted = {future.result().upload_id for future in futures}
        end = time.monotonic() + WAIT_S
        while wanted and time.monotonic() < end:
            if delivery := results.poll(0.1):
                wanted.discard(delivery.event.id)
                delivery.ack()
    if wanted:
        raise ErasestreamError(f"{len(wanted)} results did not come")


async def _isolation(model: Installed, photos: Sequence[bytes]) -> list[Figure]:
    pools = {each: ProcessPool(model=model, children=1, isolation=each) for each in Isolation}
    taken: dict[Isolation, list[float]] = {each: [] for each in Isolation}
    try:
        for pool in pools.values():
            await pool.start()
            await pool.cut_out(photos[0], OPTIONS)
        for _ in range(ROUNDS):
            for isolation, pool in pools.items():
                for photo in photos:
                    begun = time.perf_counter()
                    await pool.cut_out(photo, OPTIONS)
                    taken[isolation].append((time.perf_counter() - begun) * 1000)
    finally:
        for pool in pools.values():
            await pool.close()
    ratios = [
        one / other
        for one, other in zip(taken[Isolation.PER_IMAGE], taken[Isolation.LONG_LIVED], strict=True)
    ]
    return [
        *(figure(f"inference.{each}_ms", taken[each], "ms") for each in Isolation),
        figure("inference.per_image_process_cost", ratios, "ratio", at_most=1.10),
        Figure("inference.per_image_extra_ms", round(_extra(taken), 1), "ms"),
    ]


def _extra(taken: dict[Isolation, list[float]]) -> float:
    return median(taken[Isolation.PER_IMAGE]) - median(taken[Isolation.LONG_LIVED])

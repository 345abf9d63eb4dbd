"""A burst in which every tenth picture exceeds its deadline: the effect on the others.

A straggler is large, so its deadline is three times that of a usual picture, and about ten times
what that takes: the stragglers take about as much CPU time as all others together, and the others
need twice the time even if they do not wait.
"""

import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import quantiles

from PIL import Image

from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.bench.end_to_end import a_photo
from tests.bench.figures import Figure, figure
from tests.bench.results import take_results
from tests.bench.running_pipeline import SHOP, pipeline
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
UPLOADS = int(os.environ.get("BENCH_UPLOADS", "300"))
STRAGGLERS = 10
"""One picture in this many is a straggler."""
DEADLINE = "PT0.2S"
PARTITIONS = 8
WAIT_S = 240.0


def measure() -> Iterator[Figure]:
    """Measure the 99th percentile of the others, beside stragglers and alone."""
    usual, slow = a_photo(), _slow()
    alone = [usual] * UPLOADS
    beside = [
        photo
        for n in range(UPLOADS)
        for photo in ([usual, slow] if n % (STRAGGLERS - 1) == 0 else [usual])
    ]
    alone_s, beside_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_model(Path(folder))
        settings = {"ERASESTREAM_INFERENCE__DEADLINE": DEADLINE}
        with pipeline(
            models=Path(folder), model="tiny", partitions=PARTITIONS, settings=settings
        ) as stack:
            _p99(stack, [usual] * 20, "warm-up")
            for number in range(ROUNDS):
                alone_s.append(_p99(stack, alone, f"alone-{number}"))
                beside_s.append(_p99(stack, beside, f"beside-{number}"))
    ratios = [slowed / usual_s for slowed, usual_s in zip(beside_s, alone_s, strict=True)]
    yield figure("inference.p99_beside_stragglers_ratio", ratios, "", at_most=2.0)
    yield figure("inference.p99_alone_s", alone_s, "s")
    yield figure("inference.p99_beside_stragglers_s", beside_s, "s")


def _slow() -> bytes:
    """Return 48 megapixels in a small file: decoding and encoding take seconds."""
    file = io.BytesIO()
    Image.effect_noise((800, 600), 60).resize((8000, 6000)).convert("RGB").save(
        file, "JPEG", quality=50
    )
    return file.getvalue()


def _p99(stack: Stack, photos: Sequence[bytes], group: str) -> float:
    """Return seconds from the first upload until 99 % of the results without a timeout came."""
    served_s = []
    with (
        ResultSubscription(stack.cluster, SHOP, group=group) as results,
        UploadProducer(stack.cluster, SHOP) as producer,
    ):
        started_s = time.monotonic()
        futures = [producer.send(photo, account="acct") for photo in photos]
        wanted = {future.result().upload_id for future in futures}

        def on_result(event: Cutout | Failure) -> None:
            is_late = isinstance(event, Failure) and event.code == Code.PROCESSING_TIMEOUT
            if event.id in wanted and not is_late:
                served_s.append(time.monotonic() - started_s)

        take_results(wanted, results, timeout_s=WAIT_S, poll_s=0.05, on_result=on_result)
    return quantiles(served_s, n=100)[98]

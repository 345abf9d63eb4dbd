"""A burst in which every tenth picture runs into its deadline: what the others notice.

The deadline is some ten times what a usual picture takes, so that the stragglers take about
as much of the cores as all others together: without waiting for them the others would need
twice the time.
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
from erasestream.schemas.errors import Code, ErasestreamError
from erasestream.schemas.events.images import Failure
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.bench.end_to_end import a_photo
from tests.bench.figures import Figure, figure
from tests.bench.running_pipeline import SHOP, pipeline
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
UPLOADS = int(os.environ.get("BENCH_UPLOADS", "300"))
STRAGGLERS = 10
"""One of so many."""
DEADLINE = "PT0.5S"
PARTITIONS = 8
WAIT_S = 240.0


def measure() -> Iterator[Figure]:
    """How much later the last hundredth of the others is served."""
    usual, slow = a_photo(), _slow()
    ratios, alone_s, beside_s = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_model(Path(folder))
        settings = {"ERASESTREAM_INFERENCE__DEADLINE": DEADLINE}
        with pipeline(
            models=Path(folder), model="tiny", partitions=PARTITIONS, settings=settings
        ) as stack:
            _p99(stack, [usual] * 20, "warm-up")
            for number in range(ROUNDS):
                alone = _p99(stack, [usual] * UPLOADS, f"alone-{number}")
                burst = [
                    photo
                    for n in range(UPLOADS)
                    for photo in ([usual, slow] if n % (STRAGGLERS - 1) == 0 else [usual])
                ]
                beside = _p99(stack, burst, f"beside-{number}")
                alone_s.append(alone)
                beside_s.append(beside)
                ratios.append(beside / alone)
    yield figure("inference.p99_beside_stragglers_ratio", ratios, "", at_most=2.0)
    yield figure("inference.p99_alone_s", alone_s, "s")
    yield figure("inference.p99_beside_stragglers_s", beside_s, "s")


def _slow() -> bytes:
    """48 megapixels in a small file: decoding and encoding take seconds."""
    file = io.BytesIO()
    Image.effect_noise((800, 600), 60).resize((8000, 6000)).convert("RGB").save(
        file, "JPEG", quality=50
    )
    return file.getvalue()


def _p99(stack: Stack, photos: Sequence[bytes], group: str) -> float:
    """Seconds from the first upload of a burst, for 99 of 100 results that are no timeouts."""
    served = []
    with (
        ResultSubscription(stack.cluster, SHOP, group=group) as results,
        UploadProducer(stack.cluster, SHOP) as producer,
    ):
        started = time.monotonic()
        futures = [producer.send(photo, account="acct") for photo in photos]
        wanted = {future.result().upload_id for future in futures}
        while wanted:
            delivery = results.poll(0.05)
            if delivery is not None:
                event = delivery.event
                late = isinstance(event, Failure) and event.code == Code.PROCESSING_TIMEOUT
                if event.id in wanted and not late:
                    served.append(time.monotonic() - started)
                wanted.discard(event.id)
                delivery.ack()
            if time.monotonic() - started > WAIT_S:
                raise ErasestreamError(f"{len(wanted)} results did not come")
    return quantiles(served, n=100)[98]

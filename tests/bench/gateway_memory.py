"""Memory of a gateway while requests wait for their cut-outs."""

import asyncio
import os
import signal
import time
from pathlib import Path

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import GATEWAY
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import ErasestreamError
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.bench.end_to_end import a_photo
from tests.bench.figures import Figure
from tests.bench.gateway_stack import api_key, server_of
from tests.bench.https_clients import hold, upload_request
from tests.bench.running_pipeline import SHOP

WAITING = 100
IMAGE_BYTES = 2_000_000
WAIT_S, POLL_S = 60.0, 0.2


def waiting_mb(stack: Stack) -> Figure:
    """Measure the memory that 100 waiting requests add, with images of 2 MB."""
    photo = a_photo()
    image = photo + bytes(IMAGE_BYTES - len(photo))  # a JPEG ends where its data do
    headers = {"x-api-key": api_key(stack)}
    request = upload_request("/v2", "image_file", image, headers=headers)
    gateway, worker = (stack.running()[name] for name in (GATEWAY, "infer"))
    uploads = _Uploads(stack)
    before_mb, before = _resident_mb(gateway), uploads.count()
    found: list[float] = []

    def look() -> None:
        deadline = Deadline(WAIT_S, time.monotonic)
        while uploads.count() < before + WAITING:
            if deadline.has_passed:
                raise ErasestreamError("not all requests wait")
            time.sleep(POLL_S)
        found.append(_resident_mb(gateway) - before_mb)
        os.kill(worker, signal.SIGCONT)

    os.kill(worker, signal.SIGSTOP)
    try:
        asyncio.run(hold(server_of(stack), request, WAITING, look))
    finally:
        os.kill(worker, signal.SIGCONT)
    return Figure("gateway.rss_mb_per_100_waiting", round(found[0], 1), "MB")


class _Uploads:
    def __init__(self, stack: Stack) -> None:
        admin = Admin(stack.admin())
        topic = uploads_of(SHOP)
        self._offsets = OffsetQueries(admin)
        self._partitions = [
            Partition(topic, number) for number in range(admin.partition_counts()[topic])
        ]

    def count(self) -> int:
        """Return how many uploads were appended."""
        return sum(self._offsets.log_ends(self._partitions).values())


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6

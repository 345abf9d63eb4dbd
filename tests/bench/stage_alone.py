"""The inference stage by itself: uploads are in the topic, and no client reads the cut-outs.

The worker runs all the time, warm and connected, and is halted (SIGSTOP) while the uploads of a
round are written; a round starts when it resumes.  A round ends when the broker has appended the
last cut-out, by the broker's clock, which is ours: it is one machine.  Until then the broker is
only polled, now and then, for the number of cut-outs.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import BROKER
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.ids import UploadId
from erasestream.topics.catalog.topic_names import cutouts_of
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.bench.running_pipeline import SHOP

POLL_S = 0.5
WAIT_S = 900.0


class StageRound(NamedTuple):
    """Duration of a round, and the CPU time of each process; children count as one."""

    elapsed_s: float
    cpu_s: Mapping[str, float]


class StageAlone:
    """`erasestream infer` of a running stack, and the cut-outs that it writes."""

    def __init__(self, stack: Stack) -> None:
        self._admin = Admin(stack.admin())
        self._offsets = OffsetQueries(self._admin)
        self._cluster = stack.cluster
        self._worker = psutil.Process(stack.running()["infer"])
        self._broker = psutil.Process(stack.running()[BROKER])
        self.sent: set[UploadId] = set()
        """The uploads of all rounds, whose results have not been read yet."""
        topic = cutouts_of(SHOP)
        count = self._admin.partition_counts()[topic]
        self._partitions = [Partition(topic, number) for number in range(count)]

    def round(self, photos: Sequence[bytes]) -> StageRound:
        """Measure from the worker's first fetch of these uploads to the last cut-out."""
        wanted = self._written() + len(photos)
        with self._halted():
            with UploadProducer(self._cluster, SHOP) as producer:
                sent = [producer.send(photo, account="acct") for photo in photos]
            self.sent |= {future.result().upload_id for future in sent}
            before = self._cpu_s()
            begun_s = time.time()
        deadline = Deadline(WAIT_S, time.monotonic)
        while self._written() < wanted:
            if deadline.has_passed:
                raise ErasestreamError(f"{wanted - self._written()} cut-outs did not come")
            time.sleep(POLL_S)
        after = self._cpu_s()
        used = {name: after[name] - before[name] for name in after}
        return StageRound(self._last_append_s() - begun_s, used)

    @contextmanager
    def _halted(self) -> Iterator[None]:
        os.kill(self._worker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._worker.pid, signal.SIGCONT)

    def _written(self) -> int:
        return sum(self._offsets.log_ends(self._partitions).values())

    def _last_append_s(self) -> float:
        request = {TopicPartition(*at): OffsetSpec.max_timestamp() for at in self._partitions}
        with self._admin.use() as client:
            futures = client.list_offsets(request)
            return max(future.result().timestamp for future in futures.values()) / 1000

    def _cpu_s(self) -> dict[str, float]:
        (zygote,) = self._worker.children()
        broker, worker, forking = (
            each.cpu_times() for each in (self._broker, self._worker, zygote)
        )
        return {
            "children": forking.children_user + forking.children_system,
            "broker": broker.user + broker.system,
            "worker": worker.user + worker.system,
            "zygote": forking.user + forking.system,
        }

"""The setting in which the join is measured: one broker, and results for each contender.

Each contender has a results topic of its own, with the same partitions, settings and records, so
that all contenders run all the time, warm and connected.  The results of a round are written in
a transaction, which the contender sees only once it is committed: that starts the round.  A
round ends when the group's committed offsets reach the end; they do so with the transaction that
makes its results visible, so nothing counts before a customer can see it.
"""

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)

from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess
from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.roles import ROUTER, Role
from erasestream.topics.catalog.topic_names import (
    MAX_RECORD_BYTES,
    cutouts_of,
    ephemeral_of,
    uploads_of,
)
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.bench.join_records import (
    NOT_OPTED_IN,
    PARTITIONS,
    EncodedRecord,
    ResultFactory,
    upload_of,
)
from tests.bench.running_pipeline import (
    lane_settings,
    peak_mb,
    provisioned_servers,
    wait_for_log,
    wait_ready,
)

SHOP, ALBUM = Lane("shop"), Lane("album")
"""Results of `SHOP` have no uploads to read again; those of `ALBUM` do."""
WAIT_S = 120.0
POLL_S = 0.01
WARM_BYTES = 600_000_000
"""More than any round writes."""


class Contender(NamedTuple):
    """A consumer of results: its group, its input topic and its output topic."""

    group: Role
    source: str
    target: str


OURS = Contender(ROUTER, cutouts_of(SHOP), ephemeral_of(SHOP))


class Round(NamedTuple):
    """The cost until all results of a round are visible."""

    elapsed_s: float
    cpu_s: float
    broker_cpu_s: float


class JoinHarness:
    """A running broker with two lanes, and a producer that may write to every topic."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.admin = Admin(stack.admin())
        self._offsets = OffsetQueries(self.admin)
        self._factory = ResultFactory(self._offsets.topic_ids(map(uploads_of, (SHOP, ALBUM))))
        self._producer = self._new_producer(transactional_id="bench", linger_ms=5)
        self._producer.init_transactions(WAIT_S)
        self.plain = self._new_producer(linger_ms=0)
        """A producer that writes at once, outside transactions."""

    def _new_producer(self, **more: object) -> Producer:
        settings = self.stack.admin().settings(
            ClientErrorState(),
            message_max_bytes=MAX_RECORD_BYTES,
            queue_buffering_max_kbytes=2_000_000,
            batch_size=1_000_000,
            **more,
        )
        return Producer(settings)

    def results(
        self,
        lane: Lane,
        count: int,
        image: bytes,
        account_of: Callable[[int], AccountId] = lambda _n: NOT_OPTED_IN,
    ) -> list[EncodedRecord]:
        """Encode new results, dense in each partition as inference writes them."""
        return self._factory.results(lane, count, image, account_of)

    def write_uploads(self, lane: Lane, results: Iterable[EncodedRecord], image: bytes) -> None:
        """Write the uploads that these results are of, each at its position."""
        for result in results:
            _produce(self.plain, uploads_of(lane), upload_of(result, image), {})
        _flush(self.plain)

    def round(
        self, contender: Contender, results: Iterable[EncodedRecord], *processes: ChildProcess
    ) -> Round:
        """Measure a contender, which is these processes, while it processes these results."""
        return self.timed(contender, results, lambda: time.sleep(POLL_S), *processes)

    def timed(
        self,
        contender: Contender,
        results: Iterable[EncodedRecord],
        step: Callable[[], object],
        *processes: ChildProcess,
    ) -> Round:
        """Measure like `round`, and call `step` between two checks of the progress."""
        ends: dict[int, int] = {}
        self._producer.begin_transaction()
        for result in results:
            _produce(self._producer, contender.source, result, ends)
        _flush(self._producer)
        _warm_memory()
        broker = (self.stack.broker,)
        cpu_s, broker_cpu_s, begun_s = _cpu_s(processes), _cpu_s(broker), time.monotonic()
        deadline = Deadline(WAIT_S, time.monotonic)
        self._producer.commit_transaction(WAIT_S)
        while not self._has_reached(contender, ends):
            step()
            if deadline.has_passed:
                raise self.failure(f"{contender.group} does not reach the end")
        elapsed_s = time.monotonic() - begun_s
        return Round(elapsed_s, _cpu_s(processes) - cpu_s, _cpu_s(broker) - broker_cpu_s)

    def _has_reached(self, contender: Contender, ends: Mapping[int, int]) -> bool:
        wanted = [TopicPartition(contender.source, number) for number in ends]
        request = ConsumerGroupTopicPartitions(contender.group, wanted)
        with self.admin.use() as client:
            futures = client.list_consumer_group_offsets([request])
            answer = self.admin.ask(f"offsets of {contender.group}", futures[contender.group])
        return all(tp.offset >= ends[tp.partition] for tp in answer.topic_partitions)

    def ends_of(self, topic: str) -> Mapping[Partition, int]:
        """Return the end offset of each partition."""
        count = self.admin.partition_counts()[topic]
        return self._offsets.log_ends(Partition(topic, n) for n in range(count))

    def start_router(self, instance: str = "1") -> ChildProcess:
        """Start `erasestream route` and wait until it is ready."""
        name = f"route-{instance}"
        self.stack.start_stage("route", name=name, ERASESTREAM_STAGE__INSTANCE=instance)
        wait_ready(self.stack, name)
        return self.stack.stage(name)

    def start(self, name: str, command: list[str], *, ready: str) -> ChildProcess:
        """Start another process, and wait until it logs `ready`; it stops with the stack."""
        child = ChildProcess(self.stack.files.directory / f"{name}.pid")
        log = self.stack.log_of(name)
        child.start(command, output=log, attachment=Attachment.ATTACHED, environment=os.environ)
        wait_for_log(child, log, ready, timeout_s=WAIT_S)
        return child

    def failure(self, text: str) -> ErasestreamError:
        """Return an error with the last lines of every process's log."""
        logs = (log.read_text()[-1000:] for log in sorted(self.stack.files.logs.glob("*.log")))
        return ErasestreamError("\n".join((text, *logs)))


@contextmanager
def open_harness() -> Iterator[JoinHarness]:
    """Run a broker with two lanes; every process that was started ends with it."""
    settings = lane_settings(PARTITIONS)
    lanes = {SHOP: settings, ALBUM: settings}
    with (
        tempfile.TemporaryDirectory() as folder,
        provisioned_servers(Path(folder), lanes=lanes) as stack,
    ):
        yield JoinHarness(stack)


def peak_rss_mb(process: ChildProcess) -> float:
    """Return the peak resident memory of a process."""
    assert process.process_id
    return peak_mb(process.process_id.pid)


def _produce(producer: Producer, topic: str, record: EncodedRecord, ends: dict[int, int]) -> None:
    """Produce, waiting while the queue is full; put end offsets into `ends` on delivery."""

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise ErasestreamError(error.str())
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        ends[partition] = max(ends.get(partition, 0), offset + 1)

    while True:
        try:
            producer.produce(
                topic,
                record.value,
                None,
                record.partition,
                on_delivery,
                headers=list(record.headers),
            )
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _flush(producer: Producer) -> None:
    if producer.flush(WAIT_S):
        raise ErasestreamError("the broker accepts no records")


def _cpu_s(processes: Iterable[ChildProcess | Broker]) -> float:
    ids = [process.process_id for process in processes]
    times = [psutil.Process(each.pid).cpu_times() for each in ids if each]
    return sum(each.user + each.system for each in times)


def _warm_memory() -> None:
    """Allocate and free the memory for the files of a round.

    A virtual machine returns free memory to its host, and getting it back is slow: rounds that
    had to do so took up to twice as long, whichever contender was measured.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, WARM_BYTES, flags=flags).close()

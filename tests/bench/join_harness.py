"""What the join is measured on: one broker, and results that wait for whoever shall take them.

Everybody who is measured has a topic of results of their own, with the same partitions and
settings and the same records, so that all can run all the time, warm and connected.  What one
shall take is written in a transaction, which all of them see only once it is committed: that is
the starting gun.  A round ends when the group's committed offsets reach the end, which they do
with the transaction that makes its results visible: nothing counts before a customer can see it.
"""

import mmap
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
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
from erasestream.pipeline.settings import LaneSettings
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.base import Event, Position
from erasestream.schemas.events.images import Cutout, Upload
from erasestream.schemas.ids import AccountId, Lane, UploadId, new_upload_id
from erasestream.topics.admin.provisioning import provision
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
from tests.bench.running_pipeline import CACHE, peak_mb, wait_ready

SHOP, ALBUM = Lane("shop"), Lane("album")
"""Results of `SHOP` have no uploads to be read again; those of `ALBUM` do."""
PARTITIONS = 8
STRANGER = AccountId("never-opted-in")
PNG = b"\x89PNG\r\n\x1a\n"
WAIT_S = 120.0
LOOK_EVERY_S = 0.01
WARM_BYTES = 600_000_000
"""More than any round writes."""


class Contender(NamedTuple):
    """Who takes results: its group, where they lie, where they go."""

    group: Role
    source: str
    target: str


OURS = Contender(ROUTER, cutouts_of(SHOP), ephemeral_of(SHOP))


class EncodedRecord(NamedTuple):
    """A result before it is written."""

    partition: int
    headers: list[tuple[str, bytes]]
    value: bytes


class Round(NamedTuple):
    """What it took until all results of a round could be seen."""

    elapsed_s: float
    cpu_s: float
    broker_cpu_s: float


class JoinHarness:
    """A running broker, one lane, and a producer that may write everywhere."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.admin = Admin(stack.admin())
        self._positions: Counter[tuple[Lane, int]] = Counter()
        self._topic_ids = OffsetQueries(self.admin).topic_ids(map(uploads_of, (SHOP, ALBUM)))
        self._producer = self._new_producer(transactional_id="bench", linger_ms=5)
        self._producer.init_transactions(WAIT_S)
        self.plain = self._new_producer(linger_ms=0)
        """Writes at once, outside transactions."""

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
        account_of: Callable[[int], AccountId] = lambda _n: STRANGER,
    ) -> list[EncodedRecord]:
        """New results, dense in each partition as inference writes them."""
        return [self._result(lane, n % PARTITIONS, image, account_of(n)) for n in range(count)]

    def _result(
        self, lane: Lane, partition: int, image: bytes, account: AccountId
    ) -> EncodedRecord:
        offset = self._positions[lane, partition]
        self._positions[lane, partition] += 1
        now = datetime.now(UTC)
        cutout = Cutout(
            id=new_upload_id(partition, offset.to_bytes(10, "big")),
            time=now,
            account=account,
            position=Position(
                topic_id=self._topic_ids[uploads_of(lane)], partition=partition, offset=offset
            ),
            uploaded_at=now,
            content_type="image/png",
            model="none",
            model_sha256="0" * 64,
            model_version="1",
            data=image,
        )
        return _made(partition, cutout)

    def write_uploads(self, lane: Lane, results: Iterable[EncodedRecord], image: bytes) -> None:
        """The uploads that these results are of, each at its place."""
        for made in results:
            names = dict(made.headers)
            upload = Upload(
                id=UploadId(names["ce_id"].decode()),
                time=datetime.now(UTC),
                account=AccountId(names["ce_account"].decode()),
                content_type="image/png",
                data=image,
            )
            self._produce(self.plain, uploads_of(lane), _made(made.partition, upload), {})
        _flush(self.plain)

    def round(
        self, contender: Contender, results: Iterable[EncodedRecord], *processes: ChildProcess
    ) -> Round:
        """Let a contender, which is these processes, take these results."""
        return self.timed(contender, results, lambda: time.sleep(LOOK_EVERY_S), *processes)

    def timed(
        self,
        contender: Contender,
        results: Iterable[EncodedRecord],
        step: Callable[[], object],
        *processes: ChildProcess,
    ) -> Round:
        """The same, with something to do between looking how far it is."""
        ends: dict[int, int] = {}
        self._producer.begin_transaction()
        for made in results:
            self._produce(self._producer, contender.source, made, ends)
        _flush(self._producer)
        _warm_memory()
        broker = (self.stack.broker,)
        cpu_s, broker_cpu_s, begun = _cpu_s(processes), _cpu_s(broker), time.monotonic()
        self._producer.commit_transaction(WAIT_S)
        while not self._has_reached(contender, ends):
            step()
            if time.monotonic() - begun > WAIT_S:
                raise self.trouble(f"{contender.group} does not reach the end")
        elapsed_s = time.monotonic() - begun
        return Round(elapsed_s, _cpu_s(processes) - cpu_s, _cpu_s(broker) - broker_cpu_s)

    def _produce(
        self, producer: Producer, topic: str, made: EncodedRecord, ends: dict[int, int]
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise ErasestreamError(error.str())
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            ends[partition] = max(ends.get(partition, 0), offset + 1)

        while True:
            try:
                producer.produce(
                    topic, made.value, None, made.partition, delivered, headers=list(made.headers)
                )
            except BufferError:
                producer.poll(0.1)
            else:
                producer.poll(0)
                return

    def _has_reached(self, contender: Contender, ends: Mapping[int, int]) -> bool:
        wanted = [TopicPartition(contender.source, number) for number in ends]
        request = ConsumerGroupTopicPartitions(contender.group, wanted)
        with self.admin.use() as client:
            futures = client.list_consumer_group_offsets([request])
            answer = self.admin.ask(f"offsets of {contender.group}", futures[contender.group])
        return all(tp.offset >= ends[tp.partition] for tp in answer.topic_partitions)

    def ends_of(self, topic: str) -> Mapping[Partition, int]:
        """The offset behind the last record of each partition."""
        count = self.admin.partition_counts()[topic]
        return OffsetQueries(self.admin).log_ends(Partition(topic, n) for n in range(count))

    def start_router(self, instance: str = "1") -> ChildProcess:
        """`erasestream route`, ready."""
        name = f"route-{instance}"
        self.stack.start_stage("route", name=name, ERASESTREAM_STAGE__INSTANCE=instance)
        wait_ready(self.stack, name)
        return self.stack.stage(name)

    def start(self, name: str, command: list[str], *, ready: str) -> ChildProcess:
        """Another process, that says in its log when it is ready; it stops with the stack."""
        child = ChildProcess(self.stack.files.directory / f"{name}.pid")
        log = self.stack.log_of(name)
        child.start(command, output=log, attachment=Attachment.ATTACHED, environment=os.environ)
        end = time.monotonic() + WAIT_S
        while ready not in log.read_text():
            if child.process_id is None or time.monotonic() > end:
                raise self.trouble(f"{name} is not ready")
            time.sleep(0.05)
        return child

    def trouble(self, what: str) -> ErasestreamError:
        """What went wrong, with the last words of everybody who runs."""
        logs = (log.read_text()[-1000:] for log in sorted(self.stack.files.logs.glob("*.log")))
        return ErasestreamError("\n".join((what, *logs)))


def picture(size: int) -> bytes:
    """Bytes of this size that begin as a PNG does and can not be compressed."""
    return PNG + os.urandom(size - len(PNG))


def peak_rss_mb(process: ChildProcess) -> float:
    """Its peak resident memory."""
    assert process.process_id
    return peak_mb(process.process_id.pid)


@contextmanager
def open_harness() -> Iterator[JoinHarness]:
    """A broker and a lane; all that was started ends with it."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack", cache=CACHE)
        settings = LaneSettings(partitions=PARTITIONS)
        stack.create(lanes={SHOP: settings, ALBUM: settings})
        try:
            stack.start_servers()
            provision(Admin(stack.admin()), stack.catalog(), show=lambda _plan: None)
            yield JoinHarness(stack)
        finally:
            stack.stop()


def _made(partition: int, event: Event) -> EncodedRecord:
    wire = to_wire(event, source="/bench")
    return EncodedRecord(partition, wire.headers, wire.value)


def _flush(producer: Producer) -> None:
    if producer.flush(WAIT_S):
        raise ErasestreamError("the broker takes no records")


def _cpu_s(processes: Iterable[ChildProcess | Broker]) -> float:
    ids = [process.process_id for process in processes]
    times = [psutil.Process(each.pid).cpu_times() for each in ids if each]
    return sum(each.user + each.system for each in times)


def _warm_memory() -> None:
    """Take the memory that a round's files will lie in, and give it back.

    A virtual machine leaves what is free to its host, and is slow when it takes it again: a
    round that did so took up to twice as long, and said nothing of who was measured.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, WARM_BYTES, flags=flags).close()

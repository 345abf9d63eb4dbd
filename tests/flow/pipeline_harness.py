"""A running pipeline with clients for uploads, results and consent, and views of its stores."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from erasestream.pipeline.bootstrap import storage as wiring
from erasestream.pipeline.settings import Settings, load
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import Lane, UploadId
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.object_names import StoredName
from erasestream.topics.catalog.roles import ADMIN, AUDITOR, SINK, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import RETAINED, ephemeral_of
from erasestream.topics.client.upload_producer import Receipt, UploadProducer
from erasestream.topics.consent.writer import ConsentWriter, RecordedDecision
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.records import Record
from tests.flow.pictures import photo
from tests.flow.result_opener import ResultOpener
from tests.flow.stack_harness import BULK, PARTITIONS, SHOP, STAGES, StackHarness
from tests.flow.topic_reader import UNCOMMITTED, TopicReader, ids_in, results_of
from tests.flow.waiting import eventually

__all__ = ["BULK", "PARTITIONS", "SHOP", "STAGES", "PipelineHarness"]

OPEN_FETCH_WAIT_MS = 500
"""A reader that stays open asks the broker all the time: the longer it waits, the less it takes."""


class PipelineHarness(StackHarness):
    """A stack and its clients, each opened when it is first used."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self._producers: dict[Lane, UploadProducer] = {}
        self._results: dict[Lane, TopicReader] = {}
        self._openers: dict[Lane, ResultOpener] = {}
        self._writers: dict[Lane, ConsentWriter] = {}
        self._retained: TopicReader | None = None
        self._bucket: GcsObjectStore | None = None
        self._opened = ExitStack()

    def stop(self) -> None:
        """Close every client and stop every process."""
        try:
            self._opened.close()
        finally:
            super().stop()

    # Uploads and results

    def producer(self, lane: Lane = SHOP) -> UploadProducer:
        """Return the producer of a lane."""
        if lane not in self._producers:
            producer = UploadProducer(self.stack.cluster, lane)
            self._producers[lane] = self._opened.enter_context(producer)
        return self._producers[lane]

    def upload(self, account: str, *, image: bytes | None = None, lane: Lane = SHOP) -> Receipt:
        """Upload one picture and wait until it is acknowledged."""
        return self.producer(lane).send(image or photo(), account=account).result(30)

    def results(self, lane: Lane = SHOP) -> list[Record]:
        """Return every committed record in the lane's ephemeral topic, duplicates included."""
        return self._results_of(lane).read()

    def result_events(self, lane: Lane = SHOP) -> list[Cutout | Failure]:
        """Return every result in the lane's ephemeral topic as written, duplicates included."""
        return self._results_of(lane).read_events()

    def opened(self, event: Cutout | Failure, lane: Lane = SHOP) -> Cutout | Failure:
        """Return a result as its customer gets it: not sealed."""
        if lane not in self._openers:
            self._openers[lane] = ResultOpener(self.stack.cluster, lane)
        return self._openers[lane].open(event)

    def _results_of(self, lane: Lane) -> TopicReader:
        if lane not in self._results:
            role = lane_role(lane, LaneRole.CONSUMER)
            reader = TopicReader(
                self.stack.cluster,
                role,
                ephemeral_of(lane),
                PARTITIONS[lane],
                fetch_wait_ms=OPEN_FETCH_WAIT_MS,
            )
            self._results[lane] = reader
            self._opened.callback(reader.close)
        return self._results[lane]

    def result(self, upload: UploadId, lane: Lane = SHOP) -> Cutout | Failure:
        """Wait for the result of an upload; fail if there are two."""
        found = eventually("the result", lambda: results_of(self.results(lane), upload))
        (event,) = found
        return self.opened(event, lane)

    def cutout(self, upload: UploadId, lane: Lane = SHOP) -> Cutout:
        """Wait for the result of an upload; fail unless it is a cut-out."""
        event = self.result(upload, lane)
        assert isinstance(event, Cutout), event
        return event

    # Consent

    def consent(self, lane: Lane = SHOP) -> ConsentWriter:
        """Return the consent writer of a lane."""
        if lane not in self._writers:
            role = lane_role(lane, LaneRole.ACCOUNT)
            connection = Connection(cluster=self.stack.cluster, role=role)
            self._writers[lane] = ConsentWriter(connection=connection, lane=lane)
        return self._writers[lane]

    def grant(self, account: str, lane: Lane = SHOP) -> RecordedDecision:
        """Opt the account in."""
        return self.consent(lane).grant(account, actor="owner", channel=Channel.LIBRARY)

    def revoke(self, account: str, lane: Lane = SHOP) -> RecordedDecision:
        """Opt the account out."""
        return self.consent(lane).revoke(account, actor="owner", channel=Channel.LIBRARY)

    # Retained images

    @property
    def settings(self) -> Settings:
        """The settings that all stages run with."""
        return load(self.stack.files.settings)

    @property
    def bucket_data(self) -> Path:
        """The folder that holds the data of both buckets."""
        return self.stack.files.directory / "bucket"

    def reader(self) -> RetainedReader:
        """Return a reader with the rights of a training service."""
        return self._opened.enter_context(wiring.retained_reader(self.settings))

    def stored(self) -> list[StoredName]:
        """List every object in the image bucket, with the auditor's rights."""
        if self._bucket is None:
            storage = wiring.storage_of(self.settings)
            store = wiring.open_images(storage, AUDITOR)
            self._bucket = self._opened.enter_context(store)
        return [StoredName.parse(info.name) for info in self._bucket.list("")]

    def records(self, topic: str, isolation: str = UNCOMMITTED) -> list[Record]:
        """Return every record of a topic; by default those of aborted transactions too."""
        with closing(self._reader(topic, isolation)) as reader:
            return reader.read_to_end()

    def _reader(self, topic: str, isolation: str) -> TopicReader:
        partitions = self.stack.catalog()[topic].partitions
        return TopicReader(self.stack.cluster, ADMIN, topic, partitions, isolation)

    def in_retained(self) -> list[UploadId]:
        """Return the upload id of every record in `retained`, committed or not."""
        if self._retained is None:
            self._retained = self._opened.enter_context(
                closing(self._reader(RETAINED, UNCOMMITTED))
            )
        return ids_in(self._retained.read_to_end())

    def wait_until_drained(self) -> None:
        """Wait until the sink has committed the end offset of every `retained` partition.

        Also of records whose commit marker the brokers have not yet written: their results may
        have been delivered.
        """
        ends: dict[int, int] = {}
        for record in self.records(RETAINED, UNCOMMITTED):
            number = record.at.number
            ends[number] = max(ends.get(number, 0), record.offset + 1)
        request = ConsumerGroupTopicPartitions(SINK, [TopicPartition(RETAINED, n) for n in ends])

        def is_drained(client: AdminClient) -> bool:
            (future,) = client.list_consumer_group_offsets([request]).values()
            committed = future.result(20).topic_partitions
            return all(tp.offset >= ends[tp.partition] for tp in committed)

        if not ends:
            return
        with Admin(self.stack.admin()) as admin, admin.use() as client:
            eventually("the sink processes all of `retained`", lambda: is_drained(client))

"""A lane whose uploads and results are written by the test, and its router on a real broker."""

import contextlib
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from confluent_kafka import IsolationLevel, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.codec.cloudevents import from_wire, to_wire
from erasestream.schemas.events.base import Event, Position, utc
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel
from erasestream.schemas.events.images import Cutout, Upload
from erasestream.schemas.events.ledger import Finding
from erasestream.schemas.ids import AccountId, Lane, UploadId, new_upload_id
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ADMIN, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import (
    LEDGER,
    RETAINED,
    cutouts_of,
    ephemeral_of,
    uploads_of,
)
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.calls import TRANSACTION_TIMEOUT_S
from tests.flow.topic_reader import COMMITTED, TopicReader, event_of, ids_in
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.routing.running_router import INSTANCE, RunningRouter

TIMED_OUT_S = TRANSACTION_TIMEOUT_S + 15.0
"""When the broker, which looks every ten seconds, has surely aborted a transaction left open."""
LEFT_OPEN_S = 3.0
"""For a reader of what is delivered while a transaction of the test's own stays open."""
ACCOUNT = AccountId("acct")


class KafkaRouterHarness:
    """One lane: its uploads, results and decisions, and what its routers wrote."""

    def __init__(self, kafka: KafkaFixture, lane: Lane) -> None:
        self.kafka = kafka
        self.lane = lane
        self._producer = Producer(kafka.connection(ADMIN).settings(ClientErrorState(), linger_ms=0))
        self._opened = contextlib.ExitStack()
        self._admin = self._opened.enter_context(kafka.admin)
        self._customer: TopicReader | None = None

    # Input

    def produce(self, topic: str, values: Iterable[bytes]) -> None:
        """Write records that are no events to the first partition."""
        errors: list[object] = []
        for value in values:
            self._producer.produce(
                topic, value, None, 0, on_delivery=lambda error, _: errors.append(error)
            )
        assert self._producer.flush(20) == 0
        assert not any(errors), errors

    def upload(self, partition: int = 0) -> tuple[UploadId, Position, datetime]:
        """Write an upload; return its id, position and time of append."""
        event = Upload(
            id=new_upload_id(1, os.urandom(10)),
            time=datetime.now(UTC),
            account=ACCOUNT,
            content_type="image/png",
            data=b"photo",
        )
        message = self._write(uploads_of(self.lane), partition, event)
        offset = message.offset()
        assert offset is not None
        position = Position(topic_id=self.topic_id, partition=partition, offset=offset)
        return event.id, position, utc(message.timestamp()[1])

    def write_result(
        self, upload: UploadId, position: Position, uploaded_at: datetime, topic: str = ""
    ) -> None:
        """Write the result of an upload, as inference does; with a topic, as the router does."""
        event = Cutout(
            id=upload,
            time=datetime.now(UTC),
            account=ACCOUNT,
            position=position,
            uploaded_at=uploaded_at,
            content_type="image/png",
            model="tiny",
            model_sha256="0" * 64,
            model_version="1",
            data=b"cutout",
        )
        self._write(topic or cutouts_of(self.lane), position.partition, event)

    def upload_with_result(self, partition: int = 0) -> Position:
        """Write an upload and its result."""
        upload = self.upload(partition)
        self.write_result(*upload)
        return upload[1]

    def upload_granted(self) -> tuple[UploadId, Position]:
        """Grant, then write uploads with results until one is surely after the grant."""
        granted = self.consent_writer().grant(ACCOUNT, actor="owner", channel=Channel.LIBRARY)

        def upload_after_the_grant() -> tuple[UploadId, Position] | None:
            upload = self.upload()
            self.write_result(*upload)
            return upload[:2] if upload[2] - granted.at > MAX_CLOCK_SKEW else None

        return eventually("an upload after the grant", upload_after_the_grant, poll_s=0.3)

    def consent_writer(self) -> ConsentWriter:
        """Return a writer of decisions, as the lane's account service."""
        connection = self.kafka.connection(lane_role(self.lane, LaneRole.ACCOUNT))
        return ConsentWriter(connection=connection, lane=self.lane)

    # Routers

    def start_router(
        self,
        *,
        catalog: Catalog | None = None,
        originals_at: Connection | None = None,
        instance: str = INSTANCE,
    ) -> RunningRouter:
        """Start a router, which is closed with the test at the latest."""
        router = RunningRouter(
            self.kafka, self.lane, catalog=catalog, originals_at=originals_at, instance=instance
        )
        self._opened.callback(router.close)
        return router

    def route_until_delivered(self, *positions: Position) -> RunningRouter:
        """Start a router, and run it until the results of these uploads are delivered."""
        router = self.start_router()
        router.run_until(lambda: set(positions) <= set(self.delivered_so_far()))
        return router

    def assert_quarantined(self, defect: Defect, reason: str = "") -> None:
        """Start a router, and expect that it quarantines one partition for this."""
        router = self.start_router()
        router.run_until(lambda: router.findings)
        router.close()
        (broken,) = router.findings
        assert (broken.defect, broken.at.topic) == (defect, cutouts_of(self.lane))
        assert reason in broken.detail

    # Output

    def delivered_so_far(self) -> list[Position]:
        """Return the uploads whose results a running customer has read so far."""
        if self._customer is None:
            self._customer = TopicReader(
                self.kafka.cluster, ADMIN, ephemeral_of(self.lane), 2, COMMITTED
            )
            self._opened.callback(self._customer.close)
        return [event_of(record).position for record in self._customer.read(0.05)]

    def delivered(self, partitions: int = 2, settled_s: float = TIMED_OUT_S) -> list[Position]:
        """Return the uploads of all delivered results, once for each record."""
        records = self.records(ephemeral_of(self.lane), partitions, settled_s)
        return [event_of(record).position for record in records]

    def retained(self) -> list[UploadId]:
        """Return the uploads of the lane's images for the encryption sink, once for each image.

        The topic is shared: a test of another lane may have left a transaction open in it, or
        records without headers.
        """
        partitions = self.kafka.catalog()[RETAINED].partitions
        records = self.records(RETAINED, partitions)
        lane = self.lane.encode()
        return ids_in(r for r in records if dict(r.headers).get("ce_lane") == lane)

    def findings(self) -> list[Finding]:
        """Return the router's findings about the lane."""
        records = self.records(LEDGER, self.kafka.catalog()[LEDGER].partitions)
        return [
            from_wire(Finding, r.headers, r.value) for r in records if r.key == self.lane.encode()
        ]

    def records(self, topic: str, partitions: int, settled_s: float = TIMED_OUT_S) -> list[Record]:
        """Return what a read-committed reader sees, once the brokers have written the markers."""
        self._settle(topic, partitions, settled_s)
        reader = TopicReader(self.kafka.cluster, ADMIN, topic, partitions, COMMITTED)
        try:
            return reader.read_to_end()
        finally:
            reader.close()

    @property
    def topic_id(self) -> str:
        """The current id of the uploads topic."""
        topic = uploads_of(self.lane)
        return OffsetQueries(self._admin).topic_ids([topic])[topic]

    def log_end(self, at: Partition) -> int:
        return OffsetQueries(self._admin).log_end(at)

    def close(self) -> None:
        """Close every router, also if one of them fails to close: the next test begins alone."""
        self._opened.close()

    def _write(self, topic: str, partition: int, event: Event) -> Message:
        wire = to_wire(event, source="/test")
        written: list[Message] = []

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            written.append(message)

        self._producer.produce(
            topic, wire.value, None, partition, on_delivery, headers=list(wire.headers)
        )
        assert self._producer.flush(20) == 0
        return written[0]

    def _settle(self, topic: str, partitions: int, settled_s: float) -> None:
        """Wait until no transaction is open, within a bound: a test may have left one open.

        A commit is answered before its markers are in the partitions.
        """
        ends = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}
        deadline = Deadline(settled_s, time.monotonic)
        with self._admin.use() as client:

            def offsets(level: IsolationLevel) -> list[int]:
                asked = client.list_offsets(ends, isolation_level=level)
                return [asked[at].result(20).offset for at in ends]

            while not deadline.has_passed:
                stable = offsets(IsolationLevel.READ_COMMITTED)
                if stable == offsets(IsolationLevel.READ_UNCOMMITTED):
                    return
                time.sleep(0.05)

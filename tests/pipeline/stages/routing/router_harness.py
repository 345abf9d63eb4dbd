"""A lane whose uploads and cut-outs are written by hand, and its router on a real broker."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

from confluent_kafka import IsolationLevel, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from erasestream.pipeline.stages.routing.router import Router, topics_of
from erasestream.schemas.codec.cloudevents import from_wire, to_wire
from erasestream.schemas.errors import Fenced
from erasestream.schemas.events.base import Event, Position, utc
from erasestream.schemas.events.images import Cutout, Upload
from erasestream.schemas.ids import AccountId, Lane, UploadId, new_upload_id
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ADMIN, ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import RETAINED, cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Record
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from tests.flow.topic_reader import COMMITTED, TopicReader, event_of, ids_in
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture

INSTANCE = "test"
SETTLED_S = 3.0
ACCOUNT = AccountId("acct")
E = TypeVar("E", bound=Event)


class Routed:
    """A router with its loop, in this process."""

    def __init__(
        self,
        kafka: KafkaFixture,
        lane: Lane,
        *,
        catalog: Catalog | None = None,
        originals_at: Connection | None = None,
        instance: str = INSTANCE,
    ) -> None:
        connection = kafka.connection(ROUTER)
        catalog = catalog or kafka.catalog()
        only = Catalog.build(
            (catalog.lane(lane),), policy=catalog.policy, durability=catalog.durability
        )
        self._view = ConsentView(
            connection=connection, catalog=only, lanes=(lane,), report=lambda *_: None
        )
        self._originals = RecordFetcher(connection=originals_at or connection)
        self._stopping = threading.Event()
        self.router = Router(
            catalog=only,
            view=self._view,
            originals=self._originals,
            offsets=OffsetQueries(Admin(connection)),
            stopping=self._stopping,
        )
        self.loop = TransactionalLoop(
            connection=connection,
            topics=topics_of(only),
            instance=instance,
            handler=self.router,
            stopping=self._stopping,
        )
        self.loop.start()

    def run_until(self, condition: Callable[[], object]) -> None:
        """Go on until it is true."""

        def true_after_a_turn() -> bool:
            self.loop.run_once()
            return bool(condition())

        eventually("the router does it", true_after_a_turn, deadline_s=40, poll_s=0)

    def close(self) -> None:
        """Leave, once; never for long."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with contextlib.ExitStack() as closing:
            closing.callback(self._view.close)
            closing.callback(self._originals.close)
            with contextlib.suppress(Fenced):
                self.loop.close()


class KafkaRouterHarness:
    """One lane: what comes in, and what came out."""

    def __init__(self, kafka: KafkaFixture, lane: Lane) -> None:
        self.kafka = kafka
        self.lane = lane
        self._producer = Producer(kafka.connection(ADMIN).settings(ClientErrorState(), linger_ms=0))
        self._running: list[Routed] = []
        self._customer: TopicReader | None = None

    def _write(self, topic: str, partition: int, event: Event) -> Message:
        wire = to_wire(event, source="/test")
        written: list[Message] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            written.append(message)

        self._producer.produce(
            topic, wire.value, None, partition, delivered, headers=list(wire.headers)
        )
        assert self._producer.flush(20) == 0
        return written[0]

    def put(self, topic: str, values: Iterable[bytes]) -> None:
        """Records that are no events, in the first partition."""
        errors: list[object] = []
        for value in values:
            self._producer.produce(
                topic, value, None, 0, on_delivery=lambda error, _: errors.append(error)
            )
        assert self._producer.flush(20) == 0
        assert not any(errors), errors

    @property
    def topic_id(self) -> str:
        """Of the uploads as they are now."""
        topic = uploads_of(self.lane)
        return self.kafka.offsets.topic_ids([topic])[topic]

    def upload(self, partition: int = 0) -> tuple[UploadId, Position, datetime]:
        """One upload; where it lies, and since when."""
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

    def infer(
        self, upload: UploadId, position: Position, uploaded_at: datetime, topic: str = ""
    ) -> None:
        """Its result, as inference writes it; or as the router does, in another topic."""
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

    def process(self, partition: int = 0) -> Position:
        """An upload and its result."""
        upload = self.upload(partition)
        self.infer(*upload)
        return upload[1]

    def router(
        self,
        *,
        catalog: Catalog | None = None,
        originals_at: Connection | None = None,
        instance: str = INSTANCE,
    ) -> Routed:
        """Start a router; closed with the test at the latest."""
        routed = Routed(
            self.kafka,
            self.lane,
            catalog=catalog,
            originals_at=originals_at,
            instance=instance,
        )
        self._running.append(routed)
        return routed

    def route_until(self, *positions: Position) -> Routed:
        """Start a router, and run it until these are delivered."""
        routed = self.router()
        routed.run_until(lambda: set(positions) <= set(self.seen()))
        return routed

    def seen(self) -> list[Position]:
        """What a customer who goes on reading has got so far."""
        if self._customer is None:
            self._customer = TopicReader(
                self.kafka.cluster, ADMIN, ephemeral_of(self.lane), 2, COMMITTED
            )
        return [event_of(record).position for record in self._customer.read(0.05)]

    def consent(self) -> ConsentWriter:
        """The lane's account service."""
        connection = self.kafka.connection(lane_role(self.lane, LaneRole.ACCOUNT))
        return ConsentWriter(connection=connection, lane=self.lane)

    def records(self, topic: str, partitions: int) -> list[Record]:
        """What a read-committed reader sees, once the brokers have ended what was committed."""
        self._settle(topic, partitions)
        reader = TopicReader(self.kafka.cluster, ADMIN, topic, partitions, COMMITTED)
        try:
            return reader.read_to_end()
        finally:
            reader.close()

    def _settle(self, topic: str, partitions: int) -> None:
        """Wait until no transaction is open; for a moment, since a test may have left one so.

        A commit is answered before its markers lie in the partitions.
        """
        ends = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}
        deadline = time.monotonic() + SETTLED_S
        with self.kafka.admin_client() as client:

            def offsets(level: IsolationLevel) -> list[int]:
                asked = client.list_offsets(ends, isolation_level=level)
                return [asked[at].result(20).offset for at in ends]

            while time.monotonic() < deadline:
                stable = offsets(IsolationLevel.READ_COMMITTED)
                if stable == offsets(IsolationLevel.READ_UNCOMMITTED):
                    return
                time.sleep(0.05)

    def delivered(self, partitions: int = 2) -> list[Position]:
        """Of which uploads the customer has results, as often as they are there."""
        records = self.records(ephemeral_of(self.lane), partitions)
        return [event_of(record).position for record in records]

    def kept(self) -> list[UploadId]:
        """Of which uploads pictures are on their way to the sink."""
        return ids_in(self.records(RETAINED, self.kafka.catalog()[RETAINED].partitions))

    def ledger(self, event: type[E]) -> list[E]:
        """The entries of a kind that are about this lane by their key."""
        partitions = self.kafka.catalog()["ledger"].partitions
        found = self.records("ledger", partitions)
        mine = [r for r in found if (r.key or b"").split(b"/")[0] == self.lane.encode()]
        kind = event.type.encode()
        return [
            from_wire(event, r.headers, r.value)
            for r in mine
            if dict(r.headers).get("ce_type") == kind
        ]

    def close(self) -> None:
        """Stop every router, also if one of them does not end well: the next test begins alone."""
        with contextlib.ExitStack() as closing:
            if self._customer is not None:
                closing.callback(self._customer.close)
            for routed in self._running:
                closing.callback(routed.close)

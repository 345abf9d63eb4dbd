"""A running pipeline, and what tests do to it."""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from erasestream.pipeline.bootstrap import storage as wiring
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import LaneSettings, Settings, load
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import Lane, UploadId
from erasestream.sinks.buckets.access_policy import Action
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.object_names import StoredName
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.roles import ADMIN, AUDITOR, SINK, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import RETAINED, ephemeral_of
from erasestream.topics.client.upload_producer import Receipt, UploadProducer
from erasestream.topics.consent.writer import ConsentWriter, RecordedDecision
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.records import Record
from tests.flow.pictures import photo
from tests.flow.topic_reader import UNCOMMITTED, TopicReader, ids_in, results_of
from tests.flow.waiting import eventually
from tests.paths import CACHE
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

SHOP = Lane("shop")
BULK = Lane("bulk")
PARTITIONS: Mapping[Lane, int] = {SHOP: 2, BULK: 1}
STAGES = ("infer", "route", "sink")


class PipelineHarness:
    """One stack of its own.  Producers and readers are opened when they are first used."""

    def __init__(self, directory: Path) -> None:
        self.stack = Stack(directory / "stack", cache=CACHE)
        build_tiny_model(directory / "models")
        lanes = {lane: LaneSettings(partitions=count) for lane, count in PARTITIONS.items()}
        self.stack.create(models=directory / "models", model="tiny", lanes=lanes)
        self._producers: dict[Lane, UploadProducer] = {}
        self._results: dict[Lane, TopicReader] = {}
        self._writers: dict[Lane, ConsentWriter] = {}
        self._opened = ExitStack()

    def start(self, stages: Iterable[str] = STAGES) -> None:
        """Servers, topics and rights, then the stages."""
        self.stack.start_servers()
        provision(Admin(self.stack.admin()), self.stack.catalog(), show=lambda _plan: None)
        self.start_stages(stages)

    def stop(self) -> None:
        """Close every client and stop every process."""
        self._opened.close()
        for reader in self._results.values():
            reader.close()
        self.stack.stop()

    # Stages

    def start_stages(self, names: Iterable[str] = STAGES, **environment: str) -> None:
        """Start those that do not run, side by side, and wait until they are ready."""
        started = [name for name in names if self.stack.stage(name).process_id is None]
        for name in started:
            self.stack.start_stage(name, **environment)
        for name in started:
            self.wait_for(name, "ready")

    def restart(self, name: str) -> None:
        """What a supervisor does after a stage has ended."""
        self.stack.start_stage(name)
        self.wait_for(name, "ready")

    def lines(self, name: str) -> list[dict[str, object]]:
        """What a stage has logged since it was started."""
        text = self.stack.log_of(name).read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def wait_for(self, name: str, event: str) -> dict[str, object]:
        """The first line of this event; fails if the stage ends without it."""

        def found() -> dict[str, object] | None:
            has_ended = self.stack.stage(name).process_id is None
            for line in self.lines(name):
                if line["event"] == event:
                    return line
            assert not has_ended, self.stack.log_of(name).read_text()
            return None

        return eventually(f"{name}: {event}", found)

    def exit_code(self, name: str) -> int:
        """How a stage ended, once it has."""
        child = self.stack.stage(name)
        eventually(f"{name} ends", lambda: child.exit_code is not None)
        assert child.exit_code is not None
        return child.exit_code

    # Uploads and results

    def producer(self, lane: Lane = SHOP) -> UploadProducer:
        """The producer of a lane."""
        if lane not in self._producers:
            self._producers[lane] = UploadProducer(self.stack.cluster, lane)
        return self._producers[lane]

    def upload(self, account: str, *, image: bytes | None = None, lane: Lane = SHOP) -> Receipt:
        """Upload one picture and wait until it is acknowledged."""
        return self.producer(lane).send(image or photo(), account=account).result(30)

    def results(self, lane: Lane = SHOP) -> list[Record]:
        """Every committed record in the lane's ephemeral topic up to now, repeated or not."""
        if lane not in self._results:
            role = lane_role(lane, LaneRole.CONSUMER)
            self._results[lane] = TopicReader(
                self.stack.cluster, role, ephemeral_of(lane), PARTITIONS[lane]
            )
        return self._results[lane].read()

    def result(self, upload: UploadId, lane: Lane = SHOP) -> Cutout | Failure:
        """The result of an upload, once it is there; fails if it is there twice."""
        found = eventually("the result", lambda: results_of(self.results(lane), upload))
        (event,) = found
        return event

    def cutout(self, upload: UploadId, lane: Lane = SHOP) -> Cutout:
        """The same, if it is a cut-out."""
        event = self.result(upload, lane)
        assert isinstance(event, Cutout), event
        return event

    # Consent

    def consent(self, lane: Lane = SHOP) -> ConsentWriter:
        """The account service of a lane."""
        if lane not in self._writers:
            role = lane_role(lane, LaneRole.ACCOUNT)
            connection = Connection(cluster=self.stack.cluster, role=role)
            self._writers[lane] = ConsentWriter(connection=connection, lane=lane)
        return self._writers[lane]

    def grant(self, account: str, lane: Lane = SHOP) -> RecordedDecision:
        """The owner opts in."""
        return self.consent(lane).grant(account, actor="owner", channel=Channel.LIBRARY)

    def revoke(self, account: str, lane: Lane = SHOP) -> RecordedDecision:
        """The owner opts out."""
        return self.consent(lane).revoke(account, actor="owner", channel=Channel.LIBRARY)

    # What is kept

    @property
    def settings(self) -> Settings:
        """The settings that all stages run with."""
        return load(self.stack.files.settings)

    @property
    def bucket_data(self) -> Path:
        """The folder in which both buckets keep everything."""
        return self.stack.files.directory / "bucket"

    def reader(self) -> RetainedReader:
        """What a training service reads with."""
        return self._opened.enter_context(wiring.retained_reader(self.settings))

    def stored(self) -> list[StoredName]:
        """Everything in the image bucket, as the auditor lists it."""
        storage = wiring.storage_of(self.settings)
        with wiring.open_bucket(storage, storage.bucket, AUDITOR, (Action.LIST,)) as store:
            return [StoredName.parse(info.name) for info in store.list("")]

    def records(self, topic: str, isolation: str = UNCOMMITTED) -> list[Record]:
        """Everything that lies in a topic, by default what was aborted as well."""
        partitions = self.stack.catalog()[topic].partitions
        reader = TopicReader(self.stack.cluster, ADMIN, topic, partitions, isolation)
        try:
            return reader.read_to_end()
        finally:
            reader.close()

    def in_retained(self) -> list[UploadId]:
        """The upload of every record in `retained`, committed or not."""
        return ids_in(self.records(RETAINED))

    def wait_until_drained(self) -> None:
        """Until the sink has worked through all of `retained`."""
        reached: dict[int, int] = {}
        for record in self.records(RETAINED, "read_committed"):
            number = record.at.number
            reached[number] = max(reached.get(number, 0), record.offset + 1)
        admin = Admin(self.stack.admin())
        asked = ConsumerGroupTopicPartitions(SINK, [TopicPartition(RETAINED, n) for n in reached])

        def drained() -> bool:
            (future,) = admin.client.list_consumer_group_offsets([asked]).values()
            committed = future.result(20).topic_partitions
            return all(tp.offset >= reached[tp.partition] for tp in committed)

        if reached:
            eventually("the sink works through everything", drained)

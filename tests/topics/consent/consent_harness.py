"""A writer of decisions, a vault in memory and an eraser, on a real broker."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.erasure.grant_entries import OwnedEntries
from erasestream.pipeline.stages.erasure.grant_eraser import GrantEraser
from erasestream.pipeline.stages.erasure.missing_entries import MissingEntries
from erasestream.pipeline.stages.erasure.stage import DeletionRound, EraserStage
from erasestream.pipeline.stages.erasure.upload_eraser import UploadEraser
from erasestream.schemas.clocks import Clock, WallClock
from erasestream.schemas.codec.cloudevents import Wire, from_wire, to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.events.ledger import Finding
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId, new_upload_id
from erasestream.sinks.images.upload_deletion import DeletedUpload, KeptUpload
from erasestream.topics.catalog.roles import ADMIN, ERASER, OPERATOR, LaneRole, Role, lane_role
from erasestream.topics.catalog.topic_names import (
    consent_of,
    erasures_of,
    ledger_of,
    revocations_of,
)
from erasestream.topics.consent.ledger_view import LedgerView
from erasestream.topics.consent.unfinished_erasures import UnfinishedErasures
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from tests.flow.topic_reader import TopicReader
from tests.kafka_fixture import KafkaFixture

SETTLE_S = 25.0
ACCOUNT = AccountId("acct")
OWNER = {"actor": "owner", "channel": Channel.ACCOUNT_PAGE}
ANN = {"actor": "operator:ann", "channel": Channel.OPERATOR}


def writer(kafka: KafkaFixture, lane: Lane, now: WallClock | None = None) -> ConsentWriter:
    """Open a writer as the lane's account service."""
    connection = kafka.connection(lane_role(lane, LaneRole.ACCOUNT))
    return ConsentWriter(connection=connection, lane=lane, **{"now": now} if now else {})


def operator(kafka: KafkaFixture, lane: Lane) -> ConsentWriter:
    """Open a writer as an operator."""
    return ConsentWriter(connection=kafka.connection(OPERATOR), lane=lane)


def write_as(kafka: KafkaFixture, role: Role, at: Partition, key: bytes, wire: Wire) -> None:
    """Write one record without our writer's rules."""
    stranger = AcknowledgedWriter(connection=kafka.connection(role), timeout_s=10)
    with closing(stranger):
        stranger.write(at, key, wire)


class FakeVault:
    """Vault in memory, unavailable at first."""

    def __init__(self) -> None:
        self.is_unavailable = True
        self.asked = 0
        self.marked: set[GrantId] = set()

    def mark(self, grant: GrantId) -> None:
        self.asked += 1
        if self.is_unavailable:
            raise Unavailable("the vault")
        self.marked.add(grant)


class NothingRetained:
    """Deletions of an installation that retains nothing, for tests of markers."""

    def run_once(self, unfinished: UnfinishedErasures, shown: set[Partition]) -> None:
        """Delete nothing."""

    def metrics(self) -> str:
        return ""


class HeldUploads:
    """Objects of uploads, in memory; none at first."""

    def __init__(self) -> None:
        self.objects: Counter[KeptUpload] = Counter()
        self.gone: Counter[KeptUpload] = Counter()
        self.marked: list[KeptUpload] = []
        self.is_unavailable = False

    def mark(self, kept: KeptUpload) -> None:
        if self.is_unavailable:
            raise Unavailable("the vault")
        self.marked.append(kept)

    def delete(self, kept: KeptUpload) -> int:
        assert kept in self.marked
        found = self.objects.pop(kept, 0)
        self.gone[kept] += found
        return found

    def deleted(self, kept: KeptUpload) -> DeletedUpload:
        return DeletedUpload(self.gone[kept], "ab" * 32)


def kept_as(lane: Lane, account: AccountId, upload: UploadId) -> KeptUpload:
    """Return how the objects of an upload are named here."""
    return KeptUpload(f"{lane}-{account}", upload)


@contextmanager
def eraser(
    kafka: KafkaFixture,
    lane: Lane,
    vault: FakeVault,
    stopping: threading.Event,
    *,
    view_of: type[LedgerView] = LedgerView,
    writes: AcknowledgedWriter | None = None,
    beat: Callable[[], None] = lambda: None,
    clock: Clock = time.monotonic,
    others: Sequence[Lane] = (),
    deletions: DeletionRound | None = None,
    held: HeldUploads | None = None,
) -> Iterator[EraserStage]:
    """Open the eraser of this lane alone, or with others."""
    connection = kafka.connection(ERASER)
    lanes = (lane, *others)
    ledger = {topic: n for each in lanes for topic, n in ledger_partitions(kafka, each).items()}
    writes = writes or AcknowledgedWriter(connection=connection, timeout_s=20)
    outage = OutageLog()
    grants = GrantEraser(
        writes=writes, partitions=ledger, mark=vault.mark, stopping=stopping, outage=outage
    )
    with (
        closing(
            UploadEraser(
                deletion=held or HeldUploads(),
                kept_as=kept_as,
                entries=OwnedEntries(writes=writes, partitions=ledger, outage=outage),
                partitions=ledger,
                settle_s=SETTLE_S,
                outage=outage,
                clock=clock,
            )
        ) as uploads,
        closing(view_of(connection=connection, partitions=ledger)) as view,
        closing(
            WorkQueue(
                connection=connection,
                topics=[
                    name(each) for name in (consent_of, revocations_of, ledger_of) for each in lanes
                ],
                instance="test",
            )
        ) as queue,
        closing(grants),
    ):
        yield EraserStage(
            queue=queue,
            ledger=view,
            eraser=grants,
            missing=MissingEntries(writes=writes, complete_to=view.complete_to, outage=outage),
            deletions=deletions or NothingRetained(),
            unrecoverable=NothingRetained(),
            uploads=uploads,
            outage=outage,
            beat=beat,
            beat_every_s=60,
            clock=clock,
        )


@contextmanager
def running_eraser(
    kafka: KafkaFixture,
    lane: Lane,
    vault: FakeVault,
    *,
    beat: Callable[[], None] = lambda: None,
    writes: AcknowledgedWriter | None = None,
) -> Iterator[EraserStage]:
    """Run the eraser in a thread of its own."""
    stopping = threading.Event()
    with eraser(kafka, lane, vault, stopping, beat=beat, writes=writes) as stage:

        def work() -> None:
            while not stopping.is_set():
                stage.run_once()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield stage
        finally:
            stopping.set()
            thread.join()


def partition_counts(kafka: KafkaFixture) -> dict[str, int]:
    """Return the partition counts of all topics."""
    return {topic.name: topic.partitions for topic in kafka.catalog().topics}


def ledger_partitions(kafka: KafkaFixture, lane: Lane) -> dict[str, int]:
    """Return the partition counts of the lane's ledger and of its confirmed erasures."""
    catalog = kafka.catalog()
    return {name: catalog[name].partitions for name in (ledger_of(lane), erasures_of(lane))}


def read_findings(kafka: KafkaFixture, lane: Lane) -> list[Finding]:
    """Return all findings in the lane's ledger."""
    topic = ledger_of(lane)
    reader = TopicReader(kafka.cluster, ADMIN, topic, kafka.catalog()[topic].partitions)
    try:
        records = reader.read_to_end()
    finally:
        reader.close()
    kind = Finding.type.encode()
    return [
        from_wire(Finding, record.headers, record.value)
        for record in records
        if dict(record.headers).get("ce_type") == kind
    ]


def foreign_grant(
    kafka: KafkaFixture, lane: Lane, account: str, key: bytes | None = None
) -> GrantId:
    """Write a grant without a ledger entry; under its own key it counts."""
    reader = writer(kafka, lane).reader
    role = lane_role(lane, LaneRole.ACCOUNT)
    stranger = AcknowledgedWriter(connection=kafka.connection(role), timeout_s=10)
    now = datetime.now(UTC)  # last: a grant that takes 5 s to be appended is void
    event = ConsentDecision(
        id=new_upload_id(int(now.timestamp() * 1000), os.urandom(10)),
        time=now,
        account=AccountId(account),
        decision=Decision.GRANTED,
        actor="owner",
        channel=Channel.LIBRARY,
    )
    at = reader.partition_for(event.account)
    stranger.write(at, key or event.account.encode(), to_wire(event, source="/stranger"))
    active = reader.active_grant(account)
    assert (active is None) is (key is not None)
    return event.grant(lane)

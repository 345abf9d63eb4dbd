"""Superseded decisions are deleted from the brokers' disks."""

import time
from contextlib import suppress
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.consent import HEARTBEAT_KEY, Channel, Decision
from erasestream.schemas.ids import Lane, is_account
from erasestream.topics.admin.provisioning import apply
from erasestream.topics.admin.provisioning_plan import SetConfig
from erasestream.topics.catalog.retention_budget import BrokerTimes, Policy, superseded
from erasestream.topics.catalog.roles import ADMIN, ERASER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent.compaction_heartbeat import CompactionHeartbeat
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from tests.flow.byte_search import files_containing
from tests.flow.topic_reader import TopicReader
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture

OWNER = {"actor": "owner", "channel": Channel.LIBRARY}
LEGIBLE = {"compression.type": "uncompressed"}
"""Compressed, an id refers to earlier bytes wherever it has four of them in common."""
HURRIED = {
    "segment.ms": "1000",
    "max.compaction.lag.ms": "1000",
    "file.delete.delay.ms": "500",
}


def configure(kafka: KafkaFixture, topic: str, wanted: dict[str, str]) -> None:
    changes = [SetConfig(topic, name, None, value) for name, value in wanted.items()]
    apply(kafka.admin, kafka.catalog(), changes)


def heartbeats(kafka: KafkaFixture, lane: Lane) -> CompactionHeartbeat:
    """Write heartbeats with the eraser's rights."""
    connection: Connection = kafka.connection(ERASER)
    topic = consent_of(lane)
    return CompactionHeartbeat(
        writes=AcknowledgedWriter(connection=connection, timeout_s=20),
        partitions={topic: kafka.catalog()[topic].partitions},
    )


def decision_ids(kafka: KafkaFixture, topic: str, account: bytes) -> list[bytes]:
    """Return the ids of the account's decisions in the topic."""
    reader = TopicReader(kafka.cluster, ADMIN, topic, kafka.catalog()[topic].partitions)
    try:
        records = [record for record in reader.read_to_end() if record.key == account]
    finally:
        reader.close()
    return [dict(record.headers)["ce_id"] for record in records]


def test_no_account_can_have_the_key_of_heartbeats() -> None:
    """Its decisions would be skipped."""
    assert not is_account(HEARTBEAT_KEY.decode())


def test_a_superseded_decision_is_deleted_without_new_decisions(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """With short segments: heartbeats alone remove the grant and keep the revocation."""
    topic, account = consent_of(lane), b"acct-that-left"
    configure(kafka, topic, LEGIBLE)
    connection = kafka.connection(lane_role(lane, LaneRole.ACCOUNT))
    writer = ConsentWriter(connection=connection, lane=lane)
    writer.grant(account.decode(), **OWNER)
    writer.revoke(account.decode(), **OWNER)
    grant, revocation = decision_ids(kafka, topic, account)
    partition = partition_of(account, kafka.catalog()[topic].partitions)
    folder: Path = kafka.broker.data / f"{topic}-{partition}"
    assert files_containing(folder, [grant])
    configure(kafka, topic, HURRIED)

    beats = heartbeats(kafka, lane)
    due = time.monotonic()

    def is_gone() -> bool:
        nonlocal due
        if time.monotonic() >= due:
            # A busy broker may take longer; the record is written later, or the next one is.
            with suppress(Unavailable):
                beats.beat()
            due = time.monotonic() + 0.5
        return not files_containing(folder, [grant])

    eventually("the grant is gone from disk", is_gone, poll_s=0.2)
    # The broker renames the compacted segment: for a moment neither file is there.
    eventually("the revocation is on disk", lambda: files_containing(folder, [revocation]))
    assert decision_ids(kafka, topic, account) == [revocation]
    made = [entry.decision for entry in writer.reader.history(account.decode())]
    assert made == [Decision.GRANTED, Decision.REVOKED]


@given(segment=st.floats(1, 86_400), check=st.floats(1, 600), delay=st.floats(0, 3600))
def test_the_bound_includes_every_delay(segment: float, check: float, delay: float) -> None:
    """The segment, the record that rolls it, the cleaner, and the deletion of files."""
    times = BrokerTimes(cleaner_backoff_s=check, delete_delay_s=delay)
    gone = superseded(Policy(segment_s=segment, broker=times))
    assert gone.worst_age_s >= segment + segment / 3 + check + delay
    assert gone.heartbeat_s < gone.segment_s

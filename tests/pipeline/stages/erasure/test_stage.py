"""Grants are erased once, and confirmed after a restart; on a real broker."""

import threading

import pytest

from erasestream.schemas.codec.cloudevents import Wire, from_wire, type_of
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.ledger import ErasureEntry
from erasestream.schemas.ids import GrantId, Lane
from erasestream.topics.catalog.roles import ADMIN, ERASER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.ledger_place import ledger_key
from erasestream.topics.consent.writer import RecordedDecision
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.topic_reader import TopicReader
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.erasure.eraser_harness import (
    PartitionUnavailable,
    erasures_partition,
    pending,
    run_until,
)
from tests.topics.consent.consent_harness import (
    ACCOUNT,
    OWNER,
    FakeVault,
    eraser,
    running_eraser,
    writer,
)


def test_an_erased_grant_is_not_erased_again(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    """Neither by the next revocation nor by the next eraser, which reads `erasures`."""
    writes = writer(kafka, lane)
    grants: set[GrantId | None] = set()

    def decide() -> RecordedDecision:
        grants.add(writes.grant("acct", **OWNER).grant)
        return writes.revoke("acct", **OWNER)

    with running_eraser(kafka, lane, vault) as first:
        for _ in range(2):
            writes.await_confirmed("acct", decide(), timeout_s=120)
    assert first.count == len(grants)
    with running_eraser(kafka, lane, vault) as second:
        writes.await_confirmed("acct", decide(), timeout_s=120)
    assert second.count == 1
    assert vault.marked == grants


def test_an_unconfirmed_erasure_is_repeated(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    """The marker exists, and the eraser ended before it could confirm it."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    revoked = writes.revoke("acct", **OWNER)
    stopping = threading.Event()
    writer_to_erasures = PartitionUnavailable(connection=kafka.connection(ERASER), timeout_s=20)
    writer_to_erasures.unavailable = erasures_partition(kafka, lane, ACCOUNT)
    with eraser(kafka, lane, vault, stopping, writes=writer_to_erasures) as first:
        run_until("it is marked", first, lambda: bool(vault.marked) and pending(first) == 1)
    assert vault.marked == {grant}
    with pytest.raises(Unavailable, match="1 grants are not marked"):
        writes.await_confirmed("acct", revoked, timeout_s=0)
    with running_eraser(kafka, lane, vault) as second:
        writes.await_confirmed("acct", revoked, timeout_s=120)
    assert second.count == 1


def test_both_topics_have_the_same_entry(kafka: KafkaFixture, lane: Lane, vault: FakeVault) -> None:
    """With one id and one time, so that a comparison finds one erasure."""
    writes = writer(kafka, lane)
    writes.grant("acct", **OWNER)
    revoked = writes.revoke("acct", **OWNER)
    with running_eraser(kafka, lane, vault):
        writes.await_confirmed("acct", revoked, timeout_s=120)
    in_ledger, in_erasures = (
        erasures_in(kafka, lane, each(lane)) for each in (ledger_of, erasures_of)
    )
    assert len(in_ledger) == 1
    assert in_ledger == in_erasures


def test_copies_of_a_revocation_elsewhere_change_nothing(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    """Copied by the lane's own service, and read before the grant that the real one ends."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    revoked = writes.revoke("acct", **OWNER)
    topic = ledger_of(lane)
    (entry,) = (
        each
        for each in read_all(kafka, topic)
        if dict(each.headers)["ce_id"] == str(revoked.decision_id).encode()
    )
    assert entry.key == ledger_key(lane, ACCOUNT)
    role = lane_role(lane, LaneRole.ACCOUNT)
    stranger = AcknowledgedWriter(connection=kafka.connection(role), timeout_s=10)
    for number in range(kafka.catalog()[topic].partitions):
        stranger.write(Partition(topic, number), entry.key, Wire(entry.headers, entry.value))
    with running_eraser(kafka, lane, vault):
        writes.await_confirmed("acct", revoked, timeout_s=120)
    assert vault.marked == {grant}
    decisions = [each.decision for each in writes.reader.history("acct")]
    assert decisions == [Decision.GRANTED, Decision.REVOKED]


def erasures_in(kafka: KafkaFixture, lane: Lane, topic: str) -> list[ErasureEntry]:
    """Return the account's erasures in a topic."""
    ours = [each for each in read_all(kafka, topic) if each.key == ledger_key(lane, ACCOUNT)]
    return [
        from_wire(ErasureEntry, each.headers, each.value)
        for each in ours
        if type_of(each.headers) is ErasureEntry
    ]


def read_all(kafka: KafkaFixture, topic: str) -> list[Record]:
    """Return the records of a topic."""
    reader = TopicReader(kafka.cluster, ADMIN, topic, kafka.catalog()[topic].partitions)
    try:
        return reader.read_to_end()
    finally:
        reader.close()

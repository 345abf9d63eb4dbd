"""A lane with thousands of decisions takes no more turns of another lane than one with few."""

import threading
from datetime import UTC, datetime

from erasestream.pipeline.stages.erasure.stage import BATCH, MAX_PENDING
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.erasure.eraser_harness import pending, run_until
from tests.topics.consent.consent_harness import OWNER, FakeVault, eraser, writer

FLOOD = 6 * MAX_PENDING


def test_a_lane_with_thousands_of_decisions_holds_up_no_other(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    """They have no entries, so that they wait; no more of them are read than may be pending."""
    other = kafka.open_lane()
    flood(kafka, lane)
    writes = writer(kafka, other)
    writes.grant("acct", **OWNER)
    revoked = writes.revoke("acct", **OWNER)
    turns = 0
    with eraser(kafka, lane, vault, threading.Event(), others=[other]) as stage:

        def is_flooded() -> bool:
            nonlocal turns
            turns += pending(stage) > 0
            return pending(stage) > 0 and not writes.reader.unerased_grants("acct")

        run_until("the other lane's revocation is done", stage, is_flooded)
        writes.await_confirmed("acct", revoked, timeout_s=0)
        assert turns <= MAX_PENDING // BATCH + 2
        run_until("the lane is full", stage, lambda: pending(stage) >= MAX_PENDING)
        for _ in range(3):
            stage.run_once()
        assert pending(stage) < MAX_PENDING + BATCH


def flood(kafka: KafkaFixture, lane: Lane) -> None:
    """Write revocations without entries, faster than they can be handled."""
    account = AccountId("floods")
    reader = writer(kafka, lane).reader
    at = reader.partition_for(account)
    connection = kafka.connection(lane_role(lane, LaneRole.ACCOUNT))
    stranger = AcknowledgedWriter(connection=connection, timeout_s=30)
    template = ConsentDecision(
        id=new_upload_id(0, bytes(10)),
        time=datetime.now(UTC),
        account=account,
        decision=Decision.REVOKED,
        actor="owner",
        channel=Channel.LIBRARY,
    )
    wires = [
        to_wire(template.model_copy(update={"id": new_upload_id(n, bytes(10))}), source="/test")
        for n in range(FLOOD)
    ]
    answers = stranger.write_all([(at, account.encode(), wire) for wire in wires])
    assert all(answer.result() for answer in answers)

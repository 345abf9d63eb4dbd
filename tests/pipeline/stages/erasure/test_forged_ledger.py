"""A lane whose ledger has false offsets harms itself alone; on a real broker."""

import threading

from erasestream.pipeline.stages.erasure.pending_decisions import LEDGER_LAG_S
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import ledger_of
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.erasure.eraser_harness import ManualClock, run_until
from tests.raw_kafka import RawKafka, batch, record
from tests.topics.consent.consent_harness import OWNER, FakeVault, eraser, writer


def test_false_offsets_in_a_ledger_end_no_grant(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, clock: ManualClock
) -> None:
    """Neither of another lane, which goes on, nor of its own, whose entries may not be read."""
    other = kafka.open_lane()
    ours, theirs = writer(kafka, lane), writer(kafka, other)
    granted = ours.grant("acct", **OWNER)
    forge(kafka, lane)
    stays, ends = theirs.grant("stays", **OWNER), theirs.grant("ends", **OWNER)
    revoked = theirs.revoke("ends", **OWNER)
    with eraser(kafka, lane, vault, threading.Event(), clock=clock, others=[other]) as stage:
        run_until("the other lane is done", stage, lambda: stage.count == 1)
        theirs.await_confirmed("ends", revoked, timeout_s=120)
        for _ in range(3):
            clock.now += LEDGER_LAG_S + 1
            stage.run_once()
    assert vault.marked == {ends.grant}
    assert theirs.reader.active_grant("stays") == (stays.grant, stays.at)
    assert ours.reader.active_grant("acct") == (granted.grant, granted.at)


def forge(kafka: KafkaFixture, lane: Lane) -> None:
    """Write an offset that cannot be true to each partition, on brokers that do not check it."""
    topic = ledger_of(lane)
    account = lane_role(lane, LaneRole.ACCOUNT)
    with kafka.uncompressed(topic), RawKafka(kafka.cluster, account) as raw:
        for number in range(kafka.catalog()[topic].partitions):
            assert raw.produce(topic, number, batch([record(1_000_000, b"")])).error == 0

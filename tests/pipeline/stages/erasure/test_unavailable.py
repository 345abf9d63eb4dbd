"""The eraser while a partition or the vault is unavailable, on a real broker."""

import itertools
import threading

import pytest

from erasestream.pipeline.stages.erasure.grant_eraser import MAX_PARALLEL_MARKS
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.roles import ERASER
from erasestream.topics.catalog.topic_names import consent_of, ledger_of
from erasestream.topics.consent import compaction_heartbeat
from erasestream.topics.consent.compaction_heartbeat import CompactionHeartbeat
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
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


def test_a_missed_heartbeat_holds_up_no_decision(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    def beat() -> None:
        raise Unavailable("a consent partition")

    writes = writer(kafka, lane)
    writes.grant("acct", **OWNER)
    revoked = writes.revoke("acct", **OWNER)
    with running_eraser(kafka, lane, vault, beat=beat):
        writes.await_confirmed("acct", revoked, timeout_s=120)
    assert len(vault.marked) == 1


def test_all_available_partitions_get_their_heartbeats(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_heartbeat, "WAIT_S", 60.0)  # however busy the broker is
    topic = consent_of(lane)
    count = kafka.catalog()[topic].partitions
    writes = PartitionUnavailable(connection=kafka.connection(ERASER), timeout_s=20)
    writes.unavailable = Partition(topic, 1)
    beats = CompactionHeartbeat(writes=writes, partitions={topic: count})
    ends = [kafka.offsets.log_end(Partition(topic, n)) for n in range(count)]
    for _ in range(2):
        with pytest.raises(Unavailable, match=f"{topic}/1"):
            beats.beat()
    now = [kafka.offsets.log_end(Partition(topic, n)) for n in range(count)]
    assert [b - a for a, b in zip(ends, now, strict=True)] == [2, 0] + [2] * (count - 2)
    writes.unavailable = None
    beats.beat()
    assert kafka.offsets.log_end(Partition(topic, 1)) == ends[1] + 1


def test_an_unavailable_partition_holds_up_only_its_own_confirmations(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    """They are confirmed once it is available again, without any new record."""
    writes = writer(kafka, lane)
    unavailable = erasures_partition(kafka, lane, ACCOUNT)
    names = (AccountId(f"acct-{number}") for number in itertools.count())
    other = next(name for name in names if erasures_partition(kafka, lane, name) != unavailable)
    for account in (ACCOUNT, other):
        writes.grant(account, **OWNER)
    held_up, revoked = writes.revoke(ACCOUNT, **OWNER), writes.revoke(other, **OWNER)
    writer_to_erasures = PartitionUnavailable(connection=kafka.connection(ERASER), timeout_s=20)
    writer_to_erasures.unavailable = unavailable
    with running_eraser(kafka, lane, vault, writes=writer_to_erasures) as stage:
        writes.await_confirmed(other, revoked, timeout_s=120)
        eventually("the first is pending", lambda: pending(stage) == 1)
        with pytest.raises(Unavailable, match="1 grants are not marked"):
            writes.await_confirmed(ACCOUNT, held_up, timeout_s=0)
        writer_to_erasures.unavailable = None
        writes.await_confirmed(ACCOUNT, held_up, timeout_s=120)
        eventually("nothing is pending", lambda: pending(stage) == 0)


def test_an_unconfirmed_grant_is_marked_and_written_once(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    """However long `erasures` is unavailable: the ledger is kept forever."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    revoked = writes.revoke("acct", **OWNER)
    writer_to_erasures = PartitionUnavailable(connection=kafka.connection(ERASER), timeout_s=20)
    writer_to_erasures.unavailable = erasures_partition(kafka, lane, ACCOUNT)
    with eraser(kafka, lane, vault, threading.Event(), writes=writer_to_erasures) as stage:
        run_until("it is marked", stage, lambda: bool(vault.marked))
        ends = ledger_ends(kafka, lane)
        vault.marked.clear()
        for _ in range(3):
            stage.run_once()
        assert (ledger_ends(kafka, lane), vault.marked) == (ends, set())
        assert pending(stage) == 1
        writer_to_erasures.unavailable = None
        stage.run_once()
    writes.await_confirmed("acct", revoked, timeout_s=0)
    assert grant is not None


def ledger_ends(kafka: KafkaFixture, lane: Lane) -> list[int]:
    """Return the end offset of each partition of the lane's ledger."""
    topic = ledger_of(lane)
    partitions = kafka.catalog()[topic].partitions
    return [kafka.offsets.log_end(Partition(topic, number)) for number in range(partitions)]


def test_an_unavailable_vault_is_asked_once_per_round(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    writes = writer(kafka, lane)
    for _ in range(30):
        writes.grant("acct", **OWNER)
        revoked = writes.revoke("acct", **OWNER)
    vault.is_unavailable = True
    with eraser(kafka, lane, vault, threading.Event()) as stage:
        run_until("all is read", stage, lambda: pending(stage) == 59)  # all but the first grant
        vault.asked = 0
        stage.run_once()
        assert 1 <= vault.asked <= MAX_PARALLEL_MARKS
        vault.is_unavailable = False
        stage.run_once()
    writes.await_confirmed("acct", revoked, timeout_s=0)

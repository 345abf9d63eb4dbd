"""Decisions that the ledger does not show are neither confirmed nor forgotten; on a real broker."""

from datetime import timedelta

import pytest

from erasestream.pipeline.stages.erasure import ended_grants
from erasestream.pipeline.stages.erasure.pending_decisions import LEDGER_LAG_S
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import FindingKind
from erasestream.schemas.ids import Lane, new_upload_id
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.erasure.eraser_harness import (
    ManualClock,
    OutdatedLedger,
    Start,
    pending,
    run_until,
)
from tests.topics.consent.consent_harness import (
    ACCOUNT,
    OWNER,
    FakeVault,
    foreign_grant,
    read_findings,
    running_eraser,
    writer,
)


def test_a_decision_waits_for_a_ledger_that_shows_it(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is erased, and the offset is not committed."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    revoked = writes.revoke("acct", **OWNER)
    first = start()

    run_until("both decisions wait", first, lambda: pending(first) == 2)
    assert vault.marked == set()
    with pytest.raises(Unavailable, match="1 grants are not marked"):
        writes.await_confirmed("acct", revoked, timeout_s=0)
    second = start()
    monkeypatch.setattr(OutdatedLedger, "is_outdated", False)

    run_until("it is marked: nothing was committed", second, lambda: bool(vault.marked))
    assert vault.marked == {grant}
    writes.await_confirmed("acct", revoked, timeout_s=30)


def test_a_pending_decision_holds_up_no_other(
    kafka: KafkaFixture,
    lane: Lane,
    vault: FakeVault,
    start: Start,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A record without an entry waits; once its time is over it ends the grant it makes."""
    monkeypatch.setattr(OutdatedLedger, "is_outdated", False)
    foreign = foreign_grant(kafka, lane, "stranger")
    impossible = foreign_grant(kafka, lane, "stranger-2", key=b"nobody can be called so")
    writes = writer(kafka, lane)
    writes.grant("acct", **OWNER)
    revoked = writes.revoke("acct", **OWNER)
    stage = start()

    run_until("the other is confirmed", stage, lambda: not writes.reader.unerased_grants("acct"))
    writes.await_confirmed("acct", revoked, timeout_s=0)
    assert pending(stage) == 1
    assert foreign not in vault.marked
    clock.now += LEDGER_LAG_S + 1

    run_until("it is over", stage, lambda: not pending(stage))
    stage.run_once()
    assert foreign in vault.marked
    assert impossible not in vault.marked
    found = [each for each in read_findings(kafka, lane) if f"{consent_of(lane)}/" in each.detail]
    assert [each.kind for each in found] == [FindingKind.CONSENT_NOT_IN_LEDGER]


def test_nothing_is_confirmed_that_the_ledger_does_not_show(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """An unknown revocation is not one without grants."""
    writes = writer(kafka, lane)
    revoked = writes.revoke("acct", **OWNER)
    unseen = revoked._replace(decision_id=new_upload_id(77, bytes(10)))
    with pytest.raises(Unavailable, match="does not show"):
        writes.await_confirmed("acct", unseen, timeout_s=0)


def test_no_entry_is_missing_as_long_as_no_leader_shows_the_ledger(
    kafka: KafkaFixture,
    lane: Lane,
    vault: FakeVault,
    start: Start,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long that takes, a grant made meanwhile stays in force."""
    monkeypatch.setattr(OutdatedLedger, "is_unavailable", True)
    writes = writer(kafka, lane)
    granted = writes.grant("acct", **OWNER)
    stage = start()

    run_until("it waits", stage, lambda: pending(stage) == 1)
    clock.now += 2 * LEDGER_LAG_S
    stage.run_once()
    clock.now += 2 * LEDGER_LAG_S
    monkeypatch.setattr(OutdatedLedger, "is_unavailable", False)
    stage.run_once()
    assert pending(stage) == 1
    monkeypatch.setattr(OutdatedLedger, "is_outdated", False)

    run_until("it is done", stage, lambda: pending(stage) == 0)
    assert vault.marked == set()
    assert writes.reader.active_grant("acct") == (granted.grant, granted.at)


def test_a_decision_in_doubt_is_reported_once(
    kafka: KafkaFixture,
    lane: Lane,
    vault: FakeVault,
    start: Start,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while the grants that it ends cannot be erased."""
    monkeypatch.setattr(OutdatedLedger, "is_outdated", False)
    foreign = foreign_grant(kafka, lane, "stranger")
    stage = start()

    run_until("it waits", stage, lambda: pending(stage) == 1)
    vault.is_unavailable = True
    clock.now += LEDGER_LAG_S + 1
    for _ in range(3):
        stage.run_once()
    vault.is_unavailable = False
    stage.run_once()
    stage.run_once()
    assert foreign in vault.marked
    found = [each for each in read_findings(kafka, lane) if f"{consent_of(lane)}/" in each.detail]
    assert [each.kind for each in found] == [FindingKind.CONSENT_NOT_IN_LEDGER]


def test_an_unreadable_record_does_not_end_later_grants(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late eraser finds the grant after the record in the ledger already."""
    monkeypatch.setattr(ended_grants, "MAX_CLOCK_SKEW", timedelta(0))
    writes = writer(kafka, lane)
    first = writes.grant("acct", **OWNER)
    role = lane_role(lane, LaneRole.ACCOUNT)
    stranger = AcknowledgedWriter(connection=kafka.connection(role), timeout_s=10)
    stranger.write(writes.reader.partition_for(ACCOUNT), b"acct", Wire(headers=[], value=b"?"))
    assert writes.reader.active_grant("acct") is None
    second = writes.grant("acct", **OWNER)
    with running_eraser(kafka, lane, vault) as stage:
        eventually("the first is marked", lambda: first.grant in vault.marked)
        writes.grant("later", **OWNER)
        writes.revoke("later", **OWNER)
        eventually("what came later is handled", lambda: stage.count == 2)
    assert second.grant not in vault.marked

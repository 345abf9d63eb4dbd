"""Decisions that the ledger does not show are neither confirmed nor forgotten; on a real broker."""

import pytest

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
    writes.await_confirmed("acct", revoked, timeout_s=120)


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

    def waits_and_is_confirmed() -> bool:
        return pending(stage) == 1 and not writes.reader.unerased_grants("acct")

    run_until("one waits, the other is confirmed", stage, waits_and_is_confirmed)
    writes.await_confirmed("acct", revoked, timeout_s=0)
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


def test_nothing_ends_because_of_an_entry_that_was_not_read(
    kafka: KafkaFixture,
    lane: Lane,
    vault: FakeVault,
    start: Start,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A leader shows an old end of the ledger, however long: the brokers have the entry."""
    writes = writer(kafka, lane)
    granted = writes.grant("acct", **OWNER)
    stage = start()

    run_until("it waits", stage, lambda: pending(stage) == 1)
    clock.now += LEDGER_LAG_S + 1
    run_until("it is reported", stage, lambda: read_findings(kafka, lane))
    clock.now += 100 * LEDGER_LAG_S
    for _ in range(3):
        stage.run_once()
    assert (pending(stage), vault.marked) == (1, set())
    monkeypatch.setattr(OutdatedLedger, "is_outdated", False)

    run_until("it is done", stage, lambda: pending(stage) == 0)
    assert vault.marked == set()
    assert writes.reader.active_grant("acct") == (granted.grant, granted.at)


def test_a_ledger_with_a_gap_proves_nothing(
    kafka: KafkaFixture,
    lane: Lane,
    vault: FakeVault,
    start: Start,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An offset that was not read may be the entry's."""
    monkeypatch.setattr(OutdatedLedger, "is_outdated", False)
    monkeypatch.setattr(OutdatedLedger, "complete_to", lambda *_: 0)
    foreign_grant(kafka, lane, "stranger")
    stage = start()
    run_until("it waits", stage, lambda: pending(stage) == 1)
    clock.now += LEDGER_LAG_S + 1
    run_until("it is reported", stage, lambda: read_findings(kafka, lane))
    for _ in range(3):
        stage.run_once()
    assert (pending(stage), vault.marked) == (1, set())


def test_an_unreadable_record_ends_nothing(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    """It refuses: the next grant counts, and a revocation ends both."""
    writes = writer(kafka, lane)
    first = writes.grant("acct", **OWNER)
    role = lane_role(lane, LaneRole.ACCOUNT)
    stranger = AcknowledgedWriter(connection=kafka.connection(role), timeout_s=10)
    stranger.write(writes.reader.partition_for(ACCOUNT), b"acct", Wire(headers=[], value=b"?"))
    assert writes.reader.active_grant("acct") is None
    second = writes.grant("acct", **OWNER)
    with running_eraser(kafka, lane, vault) as stage:
        writes.grant("later", **OWNER)
        later = writes.revoke("later", **OWNER)
        writes.await_confirmed("later", later, timeout_s=120)
        eventually("all is handled", lambda: pending(stage) == 0)
        assert stage.count == 1
        writes.await_confirmed("acct", writes.revoke("acct", **OWNER), timeout_s=120)
    assert {first.grant, second.grant} <= vault.marked

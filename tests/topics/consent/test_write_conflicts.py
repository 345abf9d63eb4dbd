"""Concurrent decisions about one account: consent state and ledger never disagree."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import AccountClosed, Unavailable
from erasestream.schemas.events.consent import HEARTBEAT_KEY, Channel, ConsentDecision, Decision
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent import writer as writing
from erasestream.topics.consent.write_conflicts import has_conflict
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import OWNER, FakeVault, running_eraser, writer

ACCOUNT, OTHER = AccountId("acct"), AccountId("other")


def record(account: AccountId, decision: Decision) -> Record:
    event = ConsentDecision(
        id=new_upload_id(1, bytes(10)),
        time=datetime(2026, 1, 2, tzinfo=UTC),
        account=account,
        decision=decision,
        actor="owner",
        channel=Channel.LIBRARY,
    )
    wire = to_wire(event, source="/test")
    return Record(Partition("consent.shop", 0), 0, 0, account.encode(), wire.headers, wire.value)


def unreadable(key: bytes) -> Record:
    return Record(Partition("consent.shop", 0), 0, 0, key, [], b"?")


GRANT, REVOCATION = record(ACCOUNT, Decision.GRANTED), record(ACCOUNT, Decision.REVOKED)
ELSEWHERE = [record(OTHER, each) for each in Decision] + [unreadable(HEARTBEAT_KEY)]


@pytest.mark.parametrize(
    ("decision", "between", "expected"),
    [
        (Decision.GRANTED, [], False),
        (Decision.GRANTED, [*ELSEWHERE, GRANT], False),
        (Decision.GRANTED, [GRANT, REVOCATION], True),
        (Decision.GRANTED, [unreadable(ACCOUNT.encode())], True),
        (Decision.REVOKED, [*ELSEWHERE, REVOCATION, unreadable(ACCOUNT.encode())], False),
        (Decision.REVOKED, [GRANT, REVOCATION], True),
    ],
)
def test_a_conflict_is_another_decision_of_the_same_account(
    decision: Decision, between: Iterable[Record], expected: bool
) -> None:
    """Unreadable records are refusals; other accounts and heartbeats are ignored."""
    assert has_conflict(decision, ACCOUNT, between) is expected


class StalledWriter(AcknowledgedWriter):
    """Stalls between the ledger entry and the state, until it may go on."""

    def write(self, at: Partition, key: bytes, wire: object) -> Written:
        if not at.topic.startswith("ledger."):
            self.has_stalled.set()
            assert self.may_continue.wait(120)
        return super().write(at, key, wire)  # type: ignore[arg-type]

    has_stalled: threading.Event
    may_continue: threading.Event


class StalledDecision:
    """A consent writer that stalls during its first decision."""

    def __init__(self, kafka: KafkaFixture, lane: Lane, patch: pytest.MonkeyPatch) -> None:
        self.has_stalled, self.may_continue = threading.Event(), threading.Event()
        stalled = type(
            "Mine",
            (StalledWriter,),
            {"has_stalled": self.has_stalled, "may_continue": self.may_continue},
        )
        with patch.context() as only_here:
            only_here.setattr(writing, "AcknowledgedWriter", stalled)
            self.writer: ConsentWriter = writer(kafka, lane, ahead)


def ahead() -> datetime:
    """Return a time in the future, which gives a grant more time before it is void."""
    return datetime.now(UTC) + timedelta(seconds=4)


@pytest.fixture
def slow(kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch) -> StalledDecision:
    return StalledDecision(kafka, lane, monkeypatch)


def test_a_revocation_that_a_grant_overtook_is_written_again(
    kafka: KafkaFixture, lane: Lane, slow: StalledDecision
) -> None:
    """Ledger: revocation, grant; states: grant, revocation.  The grant ends and is erased."""
    vault, other = FakeVault(), writer(kafka, lane)
    vault.is_unavailable = False
    with ThreadPoolExecutor(1) as pool, running_eraser(kafka, lane, vault):
        pending = pool.submit(lambda: slow.writer.revoke("acct", **OWNER))
        assert slow.has_stalled.wait(120)
        granted = other.grant("acct", **OWNER)
        assert granted.written
        slow.may_continue.set()
        revoked = pending.result(30)
        assert other.reader.active_grant("acct") is None
        other.await_confirmed("acct", revoked, timeout_s=120)
    assert vault.marked == {granted.grant}
    assert other.reader.unerased_grants("acct") == []
    made = [entry.decision for entry in other.reader.history("acct")]
    assert made == [Decision.REVOKED, Decision.GRANTED, Decision.REVOKED]


def test_a_grant_that_a_revocation_overtook_is_revoked(
    kafka: KafkaFixture, lane: Lane, slow: StalledDecision
) -> None:
    """Ledger: grant, revocation; states: revocation, grant.  The writer raises."""
    other = writer(kafka, lane)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(lambda: slow.writer.grant("acct", **OWNER))
        assert slow.has_stalled.wait(120)
        revoked = other.revoke("acct", **OWNER)
        slow.may_continue.set()
        with pytest.raises(Unavailable, match="revocation was made at the same time"):
            pending.result(30)
    assert other.reader.active_grant("acct") is None
    again = other.grant("acct", **OWNER)
    assert again.written
    vault = FakeVault()
    vault.is_unavailable = False
    with running_eraser(kafka, lane, vault):
        other.await_confirmed("acct", revoked, timeout_s=120)
    assert again.grant not in vault.marked
    assert other.reader.unerased_grants("acct") == [again.grant]
    active = other.reader.active_grant("acct")
    assert active
    assert active.grant == again.grant


def test_an_erased_grant_is_not_active(
    kafka: KafkaFixture, lane: Lane, slow: StalledDecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer died before it could revoke; granting again writes a new grant."""
    vault, other = FakeVault(), writer(kafka, lane)
    vault.is_unavailable = False

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slow.writer.reader, "records_between", dies)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(lambda: slow.writer.grant("acct", **OWNER))
        assert slow.has_stalled.wait(120)
        revoked = other.revoke("acct", **OWNER)
        slow.may_continue.set()
        with pytest.raises(KeyboardInterrupt):
            pending.result(30)
    assert other.reader.active_grant("acct"), "the last decision is the grant"
    with running_eraser(kafka, lane, vault):
        other.await_confirmed("acct", revoked, timeout_s=120)
    assert other.reader.active_grant("acct") is None
    again = other.grant("acct", **OWNER)
    assert again.written
    assert again.grant not in vault.marked


def test_an_account_that_was_closed_is_never_opted_in(
    kafka: KafkaFixture, lane: Lane, slow: StalledDecision
) -> None:
    """Nor by a writer that had asked before, as from a second window or gateway."""
    other = writer(kafka, lane)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(lambda: slow.writer.grant("acct", **OWNER))
        assert slow.has_stalled.wait(30)
        other.close_account("acct", **OWNER)
        slow.may_continue.set()
        with pytest.raises(AccountClosed):
            pending.result(30)
    assert other.reader.active_grant("acct") is None
    assert not any(each.reader.is_closed(OTHER) for each in (other, slow.writer))
    made = [entry.decision for entry in other.reader.history("acct")]
    other.revoke("acct", **OWNER)
    with pytest.raises(AccountClosed):
        other.grant("acct", **OWNER)
    assert made == [Decision.GRANTED, Decision.REVOKED, Decision.REVOKED]


def test_a_grant_after_the_closing_is_erased_though_its_writer_was_killed(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that asked before the closing, and wrote both records after it."""
    vault, other, killed = FakeVault(), writer(kafka, lane), writer(kafka, lane)
    vault.is_unavailable = False

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    other.close_account("acct", **OWNER)
    monkeypatch.setattr(killed.reader, "is_closed", lambda _: False)
    monkeypatch.setattr(killed.reader, "records_between", dies)
    with pytest.raises(KeyboardInterrupt):
        killed.grant("acct", **OWNER)
    assert other.reader.active_grant("acct"), "the last decision is the grant"
    with running_eraser(kafka, lane, vault):
        eventually("it is erased", lambda: other.reader.unerased_grants("acct") == [])
    assert other.reader.active_grant("acct") is None
    assert len(vault.marked) == 1


def test_a_grant_after_a_revocation_does_not_delay_its_confirmation(
    kafka: KafkaFixture, lane: Lane
) -> None:
    vault, writes = FakeVault(), writer(kafka, lane)
    vault.is_unavailable = False
    first = writes.grant("acct", **OWNER)
    revoked = writes.revoke("acct", **OWNER)
    second = writes.grant("acct", **OWNER)
    with running_eraser(kafka, lane, vault):
        writes.await_confirmed("acct", revoked, timeout_s=120)
    assert vault.marked == {first.grant}
    assert writes.reader.unerased_grants("acct") == [second.grant]


def test_other_accounts_of_the_partition_are_no_conflict(
    kafka: KafkaFixture, lane: Lane, slow: StalledDecision
) -> None:
    """Each decision is written once."""
    other = writer(kafka, lane)
    at = other.reader.partition_for(ACCOUNT)
    neighbour = next(
        name
        for name in (AccountId(f"acct-{n}") for n in range(100))
        if other.reader.partition_for(name) == at
    )
    assert at.topic == consent_of(lane)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(lambda: slow.writer.revoke("acct", **OWNER))
        assert slow.has_stalled.wait(120)
        other.grant(neighbour, **OWNER)
        slow.may_continue.set()
        pending.result(30)
    assert [each.decision for each in other.reader.history("acct")] == [Decision.REVOKED]
    assert other.reader.active_grant(neighbour)

"""Two writers decide for one account at once: what stands and what is kept never disagree."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.consent import HEARTBEAT_KEY, Channel, ConsentDecision, Decision
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent import writer as writing
from erasestream.topics.consent.write_conflicts import has_rival
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition, Record
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.deciding import OWNER, Vault, at_work, writer

ACCOUNT, OTHER = AccountId("acct"), AccountId("other")


def record(account: AccountId, decision: Decision) -> Record:
    """A state."""
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
    """Something else."""
    return Record(Partition("consent.shop", 0), 0, 0, key, [], b"?")


GRANT, REVOCATION = record(ACCOUNT, Decision.GRANTED), record(ACCOUNT, Decision.REVOKED)
ELSEWHERE = [record(OTHER, each) for each in Decision] + [unreadable(HEARTBEAT_KEY)]


@pytest.mark.parametrize(
    ("made", "between", "expected"),
    [
        (Decision.GRANTED, [], False),
        (Decision.GRANTED, [*ELSEWHERE, GRANT], False),
        (Decision.GRANTED, [GRANT, REVOCATION], True),
        (Decision.GRANTED, [unreadable(ACCOUNT.encode())], True),
        (Decision.REVOKED, [*ELSEWHERE, REVOCATION, unreadable(ACCOUNT.encode())], False),
        (Decision.REVOKED, [GRANT, REVOCATION], True),
    ],
)
def test_a_rival_decided_otherwise_for_the_same_account(
    made: Decision, between: Iterable[Record], expected: bool
) -> None:
    """What can not be read is a refusal; others' decisions and heartbeats are none of ours."""
    assert has_rival(made, ACCOUNT, between) is expected


class HeldUp(AcknowledgedWriter):
    """Stalls between the ledger entry and the state, until it is let go."""

    def write(self, at: Partition, key: bytes, wire: object) -> Written:
        """Write, or wait first."""
        if at.topic != "ledger":
            self.has_come.set()
            assert self.may_go.wait(30)
        return super().write(at, key, wire)  # type: ignore[arg-type]

    has_come: threading.Event
    may_go: threading.Event


class Slow:
    """A writer that is held up in the middle of its first decision."""

    def __init__(self, kafka: KafkaFixture, lane: Lane, patch: pytest.MonkeyPatch) -> None:
        self.has_come, self.may_go = threading.Event(), threading.Event()
        held_up = type("Mine", (HeldUp,), {"has_come": self.has_come, "may_go": self.may_go})
        with patch.context() as only_here:
            only_here.setattr(writing, "AcknowledgedWriter", held_up)
            self.writer: ConsentWriter = writer(kafka, lane, ahead)


def ahead() -> float:
    """A clock that is ahead, so that a grant has more time before it is void."""
    return datetime.now(UTC).timestamp() + 4


@pytest.fixture
def slow(kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch) -> Slow:
    """Of the test's lane."""
    return Slow(kafka, lane, monkeypatch)


def test_a_revocation_that_a_grant_overtook_is_made_again(
    kafka: KafkaFixture, lane: Lane, slow: Slow
) -> None:
    """Ledger: revocation, grant; states: grant, revocation.  The grant is over, and erased."""
    vault, other = Vault(), writer(kafka, lane)
    vault.is_away = False
    with ThreadPoolExecutor(1) as pool, at_work(kafka, lane, vault):
        pending = pool.submit(lambda: slow.writer.revoke("acct", **OWNER))
        assert slow.has_come.wait(30)
        granted = other.grant("acct", **OWNER)
        assert granted.written
        slow.may_go.set()
        revoked = pending.result(30)
        assert other.reader.active_grant("acct") is None
        other.await_confirmed("acct", revoked, timeout_s=30)
    assert vault.marked == {granted.grant}
    assert other.reader.unerased_grants("acct") == []
    made = [entry.decision for entry in other.reader.history("acct")]
    assert made == [Decision.REVOKED, Decision.GRANTED, Decision.REVOKED]


def test_a_grant_that_a_revocation_overtook_is_none(
    kafka: KafkaFixture, lane: Lane, slow: Slow
) -> None:
    """Ledger: grant, revocation; states: revocation, grant.  Nobody is told that it stands."""
    other = writer(kafka, lane)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(lambda: slow.writer.grant("acct", **OWNER))
        assert slow.has_come.wait(30)
        revoked = other.revoke("acct", **OWNER)
        slow.may_go.set()
        with pytest.raises(Unavailable, match="revocation was made at the same time"):
            pending.result(30)
    assert other.reader.active_grant("acct") is None
    again = other.grant("acct", **OWNER)
    assert again.written
    vault = Vault()
    vault.is_away = False
    with at_work(kafka, lane, vault):
        other.await_confirmed("acct", revoked, timeout_s=30)
    assert again.grant not in vault.marked
    assert other.reader.unerased_grants("acct") == [again.grant]
    standing = other.reader.active_grant("acct")
    assert standing
    assert standing.grant == again.grant


def test_an_erased_grant_does_not_stand(
    kafka: KafkaFixture, lane: Lane, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer above died before it could revoke: the next grant is one, and not 'already'."""
    vault, other = Vault(), writer(kafka, lane)
    vault.is_away = False

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slow.writer.reader, "between", dies)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(lambda: slow.writer.grant("acct", **OWNER))
        assert slow.has_come.wait(30)
        revoked = other.revoke("acct", **OWNER)
        slow.may_go.set()
        with pytest.raises(KeyboardInterrupt):
            pending.result(30)
    assert other.reader.active_grant("acct"), "the last decision is the grant"
    with at_work(kafka, lane, vault):
        other.await_confirmed("acct", revoked, timeout_s=30)
    assert other.reader.active_grant("acct") is None
    again = other.grant("acct", **OWNER)
    assert again.written
    assert again.grant not in vault.marked


def test_a_grant_after_a_revocation_keeps_nobody_waiting(kafka: KafkaFixture, lane: Lane) -> None:
    """On again in another tab: what the revocation ended is confirmed all the same."""
    vault, writes = Vault(), writer(kafka, lane)
    vault.is_away = False
    first = writes.grant("acct", **OWNER)
    revoked = writes.revoke("acct", **OWNER)
    second = writes.grant("acct", **OWNER)
    with at_work(kafka, lane, vault):
        writes.await_confirmed("acct", revoked, timeout_s=30)
    assert vault.marked == {first.grant}
    assert writes.reader.unerased_grants("acct") == [second.grant]


def test_only_its_own_account_is_a_rivals(kafka: KafkaFixture, lane: Lane, slow: Slow) -> None:
    """Others decide in the same partition meanwhile; each decision is made once."""
    other = writer(kafka, lane)
    place = other.reader.place(ACCOUNT)
    neighbour = next(
        name
        for name in (AccountId(f"acct-{n}") for n in range(100))
        if other.reader.place(name) == place
    )
    assert place.topic == consent_of(lane)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(lambda: slow.writer.revoke("acct", **OWNER))
        assert slow.has_come.wait(30)
        other.grant(neighbour, **OWNER)
        slow.may_go.set()
        pending.result(30)
    assert [each.decision for each in other.reader.history("acct")] == [Decision.REVOKED]
    assert other.reader.active_grant(neighbour)

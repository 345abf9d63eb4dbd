"""State of the consent view: the last decision counts, and doubt is a refusal."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.consent import (
    GRANT_WINDOW,
    HEARTBEAT_KEY,
    MAX_CLOCK_SKEW,
    Channel,
    ConsentDecision,
    Decision,
)
from erasestream.schemas.events.ledger import FindingKind
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.catalog.topic_names import consent_of, revocations_of
from erasestream.topics.consent.view import MAX_MISPLACED, MAX_REPORTED, ConsentState
from erasestream.topics.kafka.partitioner import murmur2, partition_of
from erasestream.topics.kafka.records import Partition, Record

LANE, OTHER = Lane("shop"), Lane("bulk")
TOPIC = consent_of(LANE)
COUNT = 4
ACCOUNT = AccountId("acct-1")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class ViewHarness:
    """The state of a view, and its findings."""

    def __init__(self, *, has_operator_grants: bool = False) -> None:
        self.found: list[FindingKind] = []
        self.state = ConsentState(
            partitions={TOPIC: COUNT, consent_of(OTHER): COUNT},
            report=lambda kind, _partition, _offset: self.found.append(kind),
            has_operator_grants=has_operator_grants,
        )
        self.offset = 0

    def write(
        self,
        decision: Decision,
        *,
        account: AccountId = ACCOUNT,
        key: bytes | None = None,
        partition: int | None = None,
        late: timedelta = timedelta(0),
        value: bytes | None = None,
        topic: str = TOPIC,
        channel: Channel = Channel.LIBRARY,
    ) -> None:
        """Append a record that is valid except for the arguments given."""
        self.offset += 1
        event = ConsentDecision(
            id=new_upload_id(self.offset, bytes(10)),
            time=NOW,
            account=account,
            decision=decision,
            actor="owner",
            channel=channel,
        )
        wire = to_wire(event, source="/test")
        key = account.encode() if key is None else key
        number = partition_of(key, COUNT) if partition is None else partition
        at, appended_ms = Partition(topic, number), int((NOW + late).timestamp() * 1000)
        body = wire.value if value is None else value
        self.state.apply(Record(at, self.offset, appended_ms, key, wire.headers, body))

    def opted_in(self, lane: Lane = LANE) -> bool:
        return self.state.active_grant(lane, ACCOUNT) is not None


@given(st.lists(st.sampled_from(Decision)))
def test_the_last_decision_counts(decisions: list[Decision]) -> None:
    """Nothing is stored for accounts that are not opted in."""
    view = ViewHarness()
    for decision in decisions:
        view.write(decision)
    granted = bool(decisions) and decisions[-1] is Decision.GRANTED
    assert view.opted_in() == granted
    assert len(view.state) == granted


def test_the_topic_determines_the_lane() -> None:
    """The same account in another lane is another account."""
    view = ViewHarness()
    view.write(Decision.GRANTED, topic=consent_of(OTHER))
    assert not view.opted_in()
    assert view.opted_in(OTHER)


@pytest.mark.parametrize("late", [GRANT_WINDOW, -GRANT_WINDOW])
def test_a_grant_within_its_window_counts(late: timedelta) -> None:
    view = ViewHarness()
    view.write(Decision.GRANTED, late=late)
    assert view.opted_in()


@pytest.mark.parametrize("late", [GRANT_WINDOW * 1.01, -GRANT_WINDOW * 1.01])
def test_a_void_grant_is_a_refusal(late: timedelta) -> None:
    """Even after an active grant, so that compaction changes no answer."""
    view = ViewHarness()
    view.write(Decision.GRANTED)
    view.write(Decision.GRANTED, late=late)
    assert not view.opted_in()


def test_a_decision_that_was_restored_or_moved_switches_nothing_on() -> None:
    """From a backup, to another installation or lane, or to another account."""
    view = ViewHarness()
    for topic in (TOPIC, consent_of(OTHER)):
        view.write(Decision.GRANTED, topic=topic, late=timedelta(days=1))
    assert not view.opted_in()
    assert not view.opted_in(OTHER)
    view.write(Decision.GRANTED, account=AccountId("acct-0"), key=ACCOUNT.encode())
    assert not view.opted_in()


def test_a_late_revocation_counts() -> None:
    """Only grants are void."""
    view = ViewHarness()
    view.write(Decision.GRANTED)
    view.write(Decision.REVOKED, late=timedelta(hours=1))
    assert not view.opted_in()


def test_a_record_in_the_wrong_partition_ends_the_opt_in_permanently() -> None:
    """The order of this account's decisions is lost; other accounts are unaffected."""
    view = ViewHarness()
    other = AccountId("acct-2")
    view.write(Decision.GRANTED)
    view.write(Decision.GRANTED, account=other)
    wrong = (partition_of(ACCOUNT.encode(), COUNT) + 1) % COUNT
    view.write(Decision.GRANTED, partition=wrong)
    view.write(Decision.GRANTED)
    assert not view.opted_in()
    assert view.state.active_grant(LANE, other)
    assert view.found == [FindingKind.CONSENT_IN_WRONG_PARTITION]


def test_each_finding_about_an_account_is_reported_once() -> None:
    """The ledger keeps every report."""
    view = ViewHarness()
    wrong = (partition_of(ACCOUNT.encode(), COUNT) + 1) % COUNT
    for _ in range(100):
        view.write(Decision.GRANTED, partition=wrong)
        view.write(Decision.GRANTED, value=b"nonsense")
    view.write(Decision.GRANTED, account=AccountId("acct-2"), value=b"nonsense")
    assert view.found == [
        FindingKind.CONSENT_IN_WRONG_PARTITION,
        FindingKind.CONSENT_UNREADABLE,
        FindingKind.CONSENT_UNREADABLE,
    ]


def test_reports_per_lane_are_bounded() -> None:
    """Also under keys that no account can have, which are refused without being remembered."""
    view = ViewHarness()
    for number in range(MAX_REPORTED + 10):
        key = b"\xff%d" % number
        view.write(Decision.GRANTED, key=key, partition=(partition_of(key, COUNT) + 1) % COUNT)
    assert len(view.found) == MAX_REPORTED


def test_a_lane_full_of_misplaced_decisions_is_refused_as_a_whole() -> None:
    """Other lanes are unaffected."""
    view = ViewHarness()
    view.write(Decision.GRANTED)
    view.write(Decision.GRANTED, topic=consent_of(OTHER))
    for number in range(MAX_MISPLACED + 5):
        account = AccountId(f"other-{number}")
        wrong = (partition_of(account.encode(), COUNT) + 1) % COUNT
        view.write(Decision.GRANTED, account=account, partition=wrong)
        assert view.opted_in() == (number < MAX_MISPLACED)
    view.write(Decision.GRANTED)
    assert not view.opted_in()
    assert view.opted_in(OTHER)
    assert len(view.found) == MAX_REPORTED


@pytest.mark.parametrize("value", [b"", b"{", b'{"decision": "perhaps"}'])
def test_an_unreadable_decision_is_a_refusal(value: bytes) -> None:
    """A tombstone among them."""
    view = ViewHarness()
    view.write(Decision.GRANTED)
    view.write(Decision.GRANTED, value=value)
    assert not view.opted_in()
    assert view.found == [FindingKind.CONSENT_UNREADABLE]


def test_a_decision_under_another_key_is_a_refusal_for_that_key() -> None:
    """The key is the account; the account in the record is not trusted."""
    view = ViewHarness()
    view.write(Decision.GRANTED)
    view.write(Decision.GRANTED, account=AccountId("mallory"), key=ACCOUNT.encode())
    assert not view.opted_in()
    assert view.state.active_grant(LANE, AccountId("mallory")) is None


@pytest.mark.parametrize("decided", Decision)
@pytest.mark.parametrize(
    ("later", "expected"), [(MAX_CLOCK_SKEW, False), (MAX_CLOCK_SKEW * 1.01, True)]
)
def test_a_revocation_by_an_operator_ends_what_was_granted_before_it(
    decided: Decision, later: timedelta, expected: bool
) -> None:
    """Or within the clocks' difference after it; whatever the record holds, read first or last."""
    for is_read_first in (True, False):
        view = ViewHarness()
        if not is_read_first:
            view.write(Decision.GRANTED, late=later)
        for late in (timedelta(0), timedelta(seconds=-9)):
            view.write(decided, topic=revocations_of(LANE), partition=0, late=late)
        view.write(Decision.GRANTED, account=AccountId("acct-2"))
        if is_read_first:
            view.write(Decision.GRANTED, late=later)
        assert view.opted_in() is expected
        assert view.state.active_grant(LANE, AccountId("acct-2"))
        assert view.found == []


def test_a_revocation_by_an_operator_is_of_one_lane() -> None:
    view = ViewHarness()
    view.write(Decision.GRANTED)
    view.write(Decision.REVOKED, topic=revocations_of(OTHER), partition=0)
    assert view.opted_in()


@pytest.mark.parametrize("has_operator_grants", [True, False])
def test_a_grant_by_an_operator_counts_in_development_only(has_operator_grants: bool) -> None:
    """Elsewhere it is a refusal, also after a grant of the owner."""
    view = ViewHarness(has_operator_grants=has_operator_grants)
    view.write(Decision.GRANTED)
    view.write(Decision.GRANTED, channel=Channel.OPERATOR)
    assert view.opted_in() is has_operator_grants
    assert view.found == ([] if has_operator_grants else [FindingKind.CONSENT_BY_OPERATOR])


def test_heartbeats_are_skipped() -> None:
    """In any partition."""
    view = ViewHarness()
    view.write(Decision.GRANTED)
    view.write(Decision.REVOKED, key=HEARTBEAT_KEY, partition=0)
    assert view.opted_in()
    assert view.found == []


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # From UtilsTest.testMurmur2 of Apache Kafka's clients.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_equals_that_of_javas_clients(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32

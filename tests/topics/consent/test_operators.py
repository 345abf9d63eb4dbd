"""Operators end grants and make none, on a real broker."""

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.bootstrap.consent import consent_writer
from erasestream.pipeline.settings import KafkaSettings, LaneSettings, Settings
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Code, Refused, Unavailable
from erasestream.schemas.events.consent import UNKNOWN_ACTOR, Channel, ConsentDecision, Decision
from erasestream.schemas.events.installation import Environment
from erasestream.schemas.events.ledger import DecisionEntry, FindingKind
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.admin.provisioning_plan import plan
from erasestream.topics.catalog.roles import OPERATOR, ROUTER, LaneRole, Role, lane_role
from erasestream.topics.catalog.topic_names import INSTALLATION, ledger_of
from erasestream.topics.consent import revocations
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.revocations import revocation_place
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.records import Partition
from tests.kafka_fixture import PARTITIONS, SHARED, KafkaFixture
from tests.topics.consent.consent_harness import ACCOUNT, ANN, OWNER, operator, write_as, writer


@pytest.fixture(name="operator")
def opened_operator(kafka: KafkaFixture, lane: Lane) -> Iterator[ConsentWriter]:
    with closing(operator(kafka, lane)) as opened:
        yield opened


@pytest.fixture
def owner(kafka: KafkaFixture, lane: Lane) -> Iterator[ConsentWriter]:
    with closing(writer(kafka, lane)) as opened:
        yield opened


@pytest.fixture
def no_skew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let later grants count at once: the tests' broker has one clock."""
    monkeypatch.setattr(revocations, "MAX_CLOCK_SKEW", timedelta(0))


@pytest.fixture
def long_skew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a grant fall within the skew, however slow the machine is."""
    monkeypatch.setattr(revocations, "MAX_CLOCK_SKEW", timedelta(minutes=10))


def decision(
    decided: Decision = Decision.GRANTED, channel: Channel = Channel.OPERATOR
) -> ConsentDecision:
    now = datetime.now(UTC) + timedelta(seconds=4)  # a grant appended 5 s later is void
    return ConsentDecision(
        id=new_upload_id(int(now.timestamp() * 1000), os.urandom(10)),
        time=now,
        account=ACCOUNT,
        decision=decided,
        actor="operator:ann",
        channel=channel,
    )


def routed(kafka: KafkaFixture, lane: Lane) -> tuple[bool, list[FindingKind]]:
    """Return whether a router that starts now retains, and what it reports."""
    found: list[FindingKind] = []
    view = ConsentView(
        connection=kafka.connection(ROUTER),
        catalog=kafka.catalog(),
        lanes=(lane,),
        report=lambda kind, *_: found.append(kind),
    )
    with closing(view):
        view.catch_up(view.mark(), deadline_s=60)
        return view.active_grant(lane, ACCOUNT) is not None, found


def test_a_revocation_by_an_operator_ends_the_grants_before_it(
    kafka: KafkaFixture, lane: Lane, owner: ConsentWriter, operator: ConsentWriter, no_skew: None
) -> None:
    """For router and readers alike; a later grant counts again, and the history names both."""
    owner.grant(ACCOUNT, **OWNER)
    assert routed(kafka, lane) == (True, [])
    revoked = operator.revoke(ACCOUNT, **ANN)
    assert revoked.written
    assert owner.reader.active_grant(ACCOUNT) is None
    assert routed(kafka, lane) == (False, [])
    again = owner.grant(ACCOUNT, **OWNER)
    active = operator.reader.active_grant(ACCOUNT)
    assert active
    assert active.grant == again.grant
    assert routed(kafka, lane) == (True, [])
    history = operator.reader.history(ACCOUNT)
    assert [(each.decision, each.actor) for each in history] == [
        (Decision.GRANTED, "owner"),
        (Decision.REVOKED, "operator:ann"),
        (Decision.GRANTED, "owner"),
    ]
    assert history[1].at == revoked.at


def test_a_waiting_view_covers_revocations_by_operators(
    kafka: KafkaFixture, lane: Lane, owner: ConsentWriter, operator: ConsentWriter
) -> None:
    """Its freshness mark includes them, so that no result is decided before they are applied."""
    owner.grant(ACCOUNT, **OWNER)
    view = ConsentView(connection=kafka.connection(ROUTER), catalog=kafka.catalog(), lanes=(lane,))
    with closing(view):
        view.catch_up(view.mark(), deadline_s=60)
        assert view.active_grant(lane, ACCOUNT)
        operator.revoke(ACCOUNT, **ANN)
        at, _ = revocation_place(lane, ACCOUNT)
        mark = view.marks([lane], timeout_s=60)[lane]
        assert mark[at] == 1
        assert view.applied(lane)[at] == 0
        view.catch_up(mark, deadline_s=60)
        assert view.applied(lane) == mark
        assert view.active_grant(lane, ACCOUNT) is None


def test_a_grant_within_the_skew_after_a_revocation_does_not_count(
    kafka: KafkaFixture, lane: Lane, owner: ConsentWriter, operator: ConsentWriter, long_skew: None
) -> None:
    """The caller learns it, before anything is written."""
    operator.revoke(ACCOUNT, **ANN)
    with pytest.raises(Unavailable, match="grant again in some seconds"):
        owner.grant(ACCOUNT, **OWNER)
    assert [each.decision for each in owner.reader.history(ACCOUNT)] == [Decision.REVOKED]


def test_a_grant_that_an_operators_revocation_overtook_is_revoked(
    kafka: KafkaFixture, lane: Lane, operator: ConsentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written while the grant was; the grant's writer raises."""
    other = writer(kafka, lane)
    ask = other.reader.is_ended_by_operator

    def revoked_after_the_question(account: AccountId, appended_at: datetime) -> bool:
        try:
            return ask(account, appended_at)
        finally:
            monkeypatch.undo()
            operator.revoke(ACCOUNT, **ANN)

    monkeypatch.setattr(other.reader, "is_ended_by_operator", revoked_after_the_question)
    with pytest.raises(Unavailable, match="revocation was made at the same time"):
        other.grant(ACCOUNT, **OWNER)
    assert other.reader.active_grant(ACCOUNT) is None
    assert routed(kafka, lane) == (False, [])


@pytest.mark.parametrize(
    "wire",
    [
        to_wire(decision(), source="/lanes/shop/consent"),
        to_wire(decision(channel=Channel.ACCOUNT_PAGE), source="/lanes/shop/consent"),
        Wire(headers=[], value=b"?"),
        Wire(headers=[], value=b""),
    ],
    ids=["a grant", "a grant in disguise", "unreadable", "empty"],
)
def test_every_record_in_the_topic_of_operators_revokes(
    kafka: KafkaFixture, lane: Lane, owner: ConsentWriter, wire: Wire
) -> None:
    owner.grant(ACCOUNT, **OWNER)
    write_as(kafka, OPERATOR, *revocation_place(lane, ACCOUNT), wire)
    assert owner.reader.active_grant(ACCOUNT) is None
    assert routed(kafka, lane) == (False, [])
    last = owner.reader.history(ACCOUNT)[-1]
    actor = "operator:ann" if wire.headers else UNKNOWN_ACTOR
    assert (last.decision, last.actor, last.channel) == (
        Decision.REVOKED,
        actor,
        Channel.OPERATOR,
    )


def test_no_operator_opts_an_account_in(kafka: KafkaFixture, lane: Lane) -> None:
    """Neither with a setting of its own, nor with records of its own."""
    cluster = kafka.cluster
    settings = Settings(
        environment=Environment.DEVELOPMENT,
        kafka=KafkaSettings(
            bootstrap_servers=cluster.bootstrap_servers,
            identities=cluster.identities,
            **SHARED,
        ),
        lanes={lane: LaneSettings(partitions=PARTITIONS)},
    )
    with consent_writer(settings, lane) as operator:
        with pytest.raises(Refused, match="only revoke"):
            operator.grant(ACCOUNT, **ANN)
        reader = operator.reader
        granted = decision()
        entry = DecisionEntry(lane=lane, **granted.model_dump())
        entries = reader.place(ledger_of(lane), ACCOUNT)
        mark = Partition(INSTALLATION, 0)
        for at, key, event in (
            (reader.partition_for(ACCOUNT), ACCOUNT.encode(), granted),
            (entries.at, entries.key, entry),
            (mark, b"installation", granted),
        ):
            with pytest.raises(Refused) as refused:
                write_as(kafka, OPERATOR, at, key, to_wire(event, source="/operator"))
            assert refused.value.code is Code.NOT_AUTHORIZED
        assert reader.active_grant(ACCOUNT) is None
        assert reader.history(ACCOUNT) == []
    assert routed(kafka, lane) == (False, [])


def test_a_grant_through_the_operators_channel_counts_in_development_only(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """By the administrator's mark: in production it is refused and reported."""
    owner = writer(kafka, lane)
    at = owner.reader.partition_for(ACCOUNT)
    role = lane_role(lane, LaneRole.ACCOUNT)
    write_as(kafka, role, at, ACCOUNT.encode(), to_wire(decision(), source="/lanes/shop/consent"))
    assert owner.reader.active_grant(ACCOUNT) is None
    assert routed(kafka, lane) == (False, [FindingKind.CONSENT_BY_OPERATOR])
    with kafka.marked_as(Environment.DEVELOPMENT):
        assert routed(kafka, lane) == (True, [])
        assert writer(kafka, lane).reader.active_grant(ACCOUNT)
    assert routed(kafka, lane) == (False, [FindingKind.CONSENT_BY_OPERATOR])


@pytest.mark.parametrize(
    ("role", "channel"),
    [(OPERATOR, Channel.OPERATOR), (OPERATOR, Channel.ACCOUNT_PAGE), (None, Channel.OPERATOR)],
    ids=["operator", "operator in disguise", "operator's channel"],
)
def test_operators_only_revoke(
    kafka: KafkaFixture, lane: Lane, role: Role | None, channel: Channel
) -> None:
    """Through their own channel, which is theirs alone."""
    connection = kafka.connection(role or lane_role(lane, LaneRole.ACCOUNT))
    with closing(ConsentWriter(connection=connection, lane=lane)) as decides:
        with pytest.raises(Refused, match="only revoke"):
            decides.grant(ACCOUNT, actor="operator:ann", channel=channel)
        if role != OPERATOR or channel is not Channel.OPERATOR:
            with pytest.raises(Refused, match="operator"):
                decides.revoke(ACCOUNT, actor="operator:ann", channel=channel)
        assert decides.reader.history(ACCOUNT) == []


def test_developers_may_grant(kafka: KafkaFixture, lane: Lane) -> None:
    """In an installation that is marked so; the ledger names the actor and the channel."""
    with kafka.marked_as(Environment.DEVELOPMENT):
        connection = kafka.connection(OPERATOR)
        with closing(ConsentWriter(connection=connection, lane=lane)) as developer:
            assert developer.grant(ACCOUNT, **ANN).written
            (entry,) = developer.reader.history(ACCOUNT)
    assert (entry.actor, entry.channel) == ("operator:ann", Channel.OPERATOR)
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    with closing(reader):
        assert reader.active_grant(ACCOUNT) is None
        assert reader.history(ACCOUNT) == []


def test_the_mark_is_part_of_the_plan(kafka: KafkaFixture, lane: Lane) -> None:
    declared = kafka.catalog_of(lane, environment=Environment.DEVELOPMENT)
    with kafka.admin as admin:
        lines = [str(change) for change in plan(admin, declared).changes]
    assert "mark the installation as development" in lines
    assert f"allow: operator may write topic consent.{lane}" in lines

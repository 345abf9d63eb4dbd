"""Order in which a decision is written, and its visibility behind open transactions."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.events.consent import HEARTBEAT_KEY, Channel
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.acl import Operation, Resource, Right
from erasestream.topics.catalog.roles import ADMIN, OPERATOR, ROUTER, LaneRole, Role, lane_role
from erasestream.topics.catalog.topic_names import consent_of, ledger_of
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.partitioner import partition_of
from tests.flow.revoked_rights import without_rights
from tests.flow.topic_reader import UNCOMMITTED, TopicReader
from tests.kafka_fixture import KafkaFixture

ACCOUNT = AccountId("acct")
OWNER = {"actor": "owner", "channel": Channel.ACCOUNT_PAGE}


def account_role(lane: Lane) -> Role:
    return lane_role(lane, LaneRole.ACCOUNT)


@pytest.fixture
def writer(kafka: KafkaFixture, lane: Lane) -> ConsentWriter:
    """Open a writer as the lane's account service."""
    return ConsentWriter(connection=kafka.connection(account_role(lane)), lane=lane)


@contextmanager
def without_right_to_write(kafka: KafkaFixture, role: Role, topic: str) -> Iterator[None]:
    """Withdraw the right of this role to write to this topic for a while."""
    right = Right(role, Operation.WRITE, Resource.TOPIC, topic)
    with kafka.admin as admin, without_rights(admin, [right]):
        yield


def count_decisions(kafka: KafkaFixture, lane: Lane) -> int:
    """Count the records with the account's key in the consent topic."""
    topic = consent_of(lane)
    partitions = kafka.catalog()[topic].partitions
    reader = TopicReader(kafka.cluster, ADMIN, topic, partitions, UNCOMMITTED)
    try:
        return sum(record.key == ACCOUNT.encode() for record in reader.read_to_end())
    finally:
        reader.close()


@pytest.mark.parametrize("decide", ["grant", "revoke"])
def test_no_decision_without_its_ledger_entry(
    kafka: KafkaFixture, lane: Lane, writer: ConsentWriter, decide: str
) -> None:
    """The ledger is written first; if that fails, nothing is decided."""
    with (
        without_right_to_write(kafka, account_role(lane), ledger_of(lane)),
        pytest.raises(Refused) as refused,
    ):
        getattr(writer, decide)(ACCOUNT, **OWNER)
    assert refused.value.code is Code.NOT_AUTHORIZED
    assert count_decisions(kafka, lane) == 0
    assert writer.reader.history(ACCOUNT) == []


def test_a_ledger_entry_without_its_decision_changes_nothing(
    kafka: KafkaFixture, lane: Lane, writer: ConsentWriter
) -> None:
    """An entry in the ledger alone opts no account in."""
    with (
        without_right_to_write(kafka, account_role(lane), consent_of(lane)),
        pytest.raises(Refused),
    ):
        writer.grant(ACCOUNT, **OWNER)
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    assert len(reader.history(ACCOUNT)) == 1
    assert reader.active_grant(ACCOUNT) is None
    assert count_decisions(kafka, lane) == 0


def test_a_decision_is_visible_behind_an_open_transaction(
    kafka: KafkaFixture, lane: Lane, writer: ConsentWriter
) -> None:
    """It is outside any transaction, and the view reads uncommitted."""
    topic = consent_of(lane)
    number = partition_of(ACCOUNT.encode(), kafka.catalog()[topic].partitions)
    settings = kafka.connection(ADMIN).settings(ClientErrorState(), transactional_id=f"open-{lane}")
    stranger = Producer(settings)
    stranger.init_transactions(20)
    stranger.begin_transaction()
    stranger.produce(topic, b"", HEARTBEAT_KEY, number)
    assert stranger.flush(20) == 0
    view = ConsentView(
        connection=kafka.connection(ROUTER),
        catalog=kafka.catalog(),
        lanes=(lane,),
        report=lambda *_: None,
    )
    try:
        granted = writer.grant(ACCOUNT, **OWNER)
        view.catch_up(view.mark(), deadline_s=60)
        active = view.active_grant(lane, ACCOUNT)
        assert active
        assert active.grant == granted.grant
        writer.revoke(ACCOUNT, **OWNER)
        view.catch_up(view.mark(), deadline_s=60)
        assert view.active_grant(lane, ACCOUNT) is None
    finally:
        stranger.abort_transaction(20)
        view.close()

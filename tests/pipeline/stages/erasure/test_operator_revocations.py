"""Operators' revocations erase, are confirmed, and get their entries; on a real broker."""

from contextlib import closing
from datetime import timedelta

import pytest

from erasestream.pipeline.stages.erasure import ended_grants
from erasestream.schemas.codec.cloudevents import Wire, from_wire, type_of
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.consent import UNKNOWN_ACTOR, Decision
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, OPERATOR
from erasestream.topics.catalog.topic_names import ledger_of
from erasestream.topics.consent import revocations
from erasestream.topics.consent.revocations import revocation_place
from tests.flow.topic_reader import TopicReader
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import (
    ACCOUNT,
    ANN,
    OWNER,
    FakeVault,
    operator,
    running_eraser,
    write_as,
    writer,
)


def test_a_revocation_by_an_operator_is_confirmed(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the eraser, which writes its ledger entry; a grant after it stays in force."""
    monkeypatch.setattr(revocations, "MAX_CLOCK_SKEW", timedelta(0))
    monkeypatch.setattr(ended_grants, "MAX_CLOCK_SKEW_MS", 0)
    owner, ann = writer(kafka, lane), operator(kafka, lane)
    first = owner.grant(ACCOUNT, **OWNER)
    revoked = ann.revoke(ACCOUNT, **ANN)
    with pytest.raises(Unavailable, match="does not show"):
        ann.await_confirmed(ACCOUNT, revoked, timeout_s=0)
    again = owner.grant(ACCOUNT, **OWNER)
    with running_eraser(kafka, lane, vault):
        ann.await_confirmed(ACCOUNT, revoked, timeout_s=120)
        never_granted = ann.revoke("acct-2", **ANN)
        ann.await_confirmed("acct-2", never_granted, timeout_s=120)
        owner.grant(ACCOUNT, **OWNER)
    assert vault.marked == {first.grant}
    active = owner.reader.active_grant(ACCOUNT)
    assert active
    assert active.grant == again.grant
    assert owner.reader.unerased_grants(ACCOUNT) == [again.grant]
    (entry,) = entries_by_operators(kafka, lane)
    assert (entry.id, entry.decision, entry.actor) == (
        revoked.decision_id,
        Decision.REVOKED,
        "operator:ann",
    )
    history = owner.reader.history(ACCOUNT)
    assert [each.decision for each in history].count(Decision.REVOKED) == 1


def test_an_unreadable_revocation_by_an_operator_erases(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault
) -> None:
    owner = writer(kafka, lane)
    first = owner.grant(ACCOUNT, **OWNER)
    write_as(kafka, OPERATOR, *revocation_place(lane, ACCOUNT), Wire(headers=[], value=b"?"))
    with running_eraser(kafka, lane, vault):
        eventually("it is marked", lambda: first.grant in vault.marked)
    assert [each.actor for each in owner.reader.history(ACCOUNT)] == ["owner", UNKNOWN_ACTOR]


def entries_by_operators(kafka: KafkaFixture, lane: Lane) -> list[DecisionEntry]:
    """Return the account's entries in the ledger that name an operator."""
    topic = ledger_of(lane)
    reader = TopicReader(kafka.cluster, ADMIN, topic, kafka.catalog()[topic].partitions)
    with closing(reader):
        records = reader.read_to_end()
    entries = [
        from_wire(DecisionEntry, each.headers, each.value)
        for each in records
        if type_of(each.headers) is DecisionEntry
    ]
    return [each for each in entries if each.is_operators_revocation and each.account == ACCOUNT]

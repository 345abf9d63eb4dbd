"""A view of keys becomes fresh, however slow the machine is."""

from contextlib import closing

import pytest

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.credentials.view import CredentialView
from erasestream.topics.kafka.consumer import awaited_ends
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture


def test_a_view_that_is_not_fresh_waits_longer_than_a_turn(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a gateway whose turns are too short for an answer would accept no key."""
    monkeypatch.setattr(awaited_ends, "STUCK_S", 0)
    connection = kafka.connection(ROUTER)
    with closing(CompactedView(connection=connection, topics={}, apply=lambda _: None)) as reader:
        view = CredentialView(reader, consent_of(lane))  # any topic
        eventually("it is fresh", lambda: view.follow(0) or view.is_fresh)

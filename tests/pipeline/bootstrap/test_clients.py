"""Readers and writers that commands open are closed, also after a refusal."""

from contextlib import AbstractContextManager

import pytest

from erasestream.pipeline.bootstrap.consent import consent_reader, consent_view, consent_writer
from erasestream.pipeline.bootstrap.storage import retained_reader, storage_of
from erasestream.pipeline.settings import Settings
from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.writer import ConsentWriter
from tests.kafka_fixture import KafkaFixture
from tests.leaks import no_leak


def test_consent_clients_are_closed(settings: Settings, lane: Lane) -> None:
    opened: list[AbstractContextManager[ConsentReader | ConsentWriter]] = [
        consent_reader(settings, lane),
        consent_writer(settings, lane),
    ]
    for each in opened:
        with no_leak(), each:
            pass


def test_an_unknown_lane_is_refused(settings: Settings) -> None:
    with pytest.raises(Refused), consent_reader(settings, Lane("unknown")):
        pass


def test_the_reader_of_retained_pictures_is_closed(settings: Settings) -> None:
    with no_leak(), retained_reader(settings) as reader:
        assert list(reader.list()) == []


def test_a_consent_topic_with_other_partitions_is_refused(
    kafka: KafkaFixture, settings: Settings
) -> None:
    more = settings.kafka.model_copy(update={"consent_partitions": 5})
    catalog = settings.model_copy(update={"kafka": more}).catalog()
    with (
        no_leak(),
        pytest.raises(Refused, match="partitions, declared"),
        consent_view(kafka.connection(ROUTER), catalog),
    ):
        pass


def test_missing_storage_is_refused(settings: Settings) -> None:
    with pytest.raises(Refused, match="section storage is missing"):
        storage_of(settings.model_copy(update={"storage": None}))

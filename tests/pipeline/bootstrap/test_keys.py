"""The key service on a real broker and a real bucket: built, used, its entries in the ledger."""

import socket
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from erasestream.pipeline.bootstrap.encryption import encryption_stage
from erasestream.pipeline.bootstrap.keys import key_service_stage
from erasestream.pipeline.settings import KeySettings, Settings
from erasestream.schemas.errors import MissingCertificate, PromiseExceeded, Refused
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.catalog.purposes import results_of
from erasestream.topics.catalog.roles import AUDITOR, KEYS, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import LEDGER
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.answers import NoKey
from erasestream.topics.keys.client import KeyClient
from tests.flow.topic_reader import TopicReader
from tests.kafka_fixture import SHARED, KafkaFixture
from tests.leaks import no_leak

HOST = "127.0.0.2"


@pytest.fixture
def settings(settings: Settings, kafka: KafkaFixture, tmp_path: Path) -> Settings:
    """Add a section `keys` to the settings, a folder for masters, and a certificate."""
    kafka.authority.issue_stage_server(KEYS, kafka.identities, hosts=[HOST])
    (tmp_path / "masters").mkdir(mode=0o700)
    keys = KeySettings(
        endpoints=(f"https://{HOST}:1",),
        masters=tmp_path / "masters",
        listen_host=HOST,
        listen_port=0,
    )
    return settings.model_copy(update={"keys": keys})


def test_a_sink_of_sealed_lanes_needs_the_key_service(settings: Settings) -> None:
    (lane,) = settings.lanes
    required = settings.lanes[lane].model_copy(update={"sealing": Sealing.REQUIRED})
    sealed = settings.model_copy(update={"lanes": {lane: required}, "keys": None})
    with (
        no_leak(),
        pytest.raises(Refused, match="section keys"),
        encryption_stage(sealed, threading.Event()),
    ):
        pass


def test_a_replica_gives_out_a_key_destroys_it_and_reports_it(
    settings: Settings, kafka: KafkaFixture
) -> None:
    (lane,) = settings.lanes
    purpose, role = results_of(lane), lane_role(lane, LaneRole.CONSUMER)
    times, now = settings.epochs(), [datetime.now(UTC)]
    epoch = times.number(now[0])
    with (
        no_leak(),
        key_service_stage(
            settings, threading.Event(), now=lambda: now[0], witness=lambda: now[0]
        ) as stage,
    ):
        client = KeyClient(
            endpoints=[f"https://{HOST}:{stage.port}"],
            identity=Identity.load(kafka.identities, role),
            now=lambda: now[0],
        )
        stage.run_once(0)
        assert stage.is_ready()
        assert isinstance(client.opening_key(purpose, epoch, timeout_s=20), bytes)
    now[0] += timedelta(days=3)
    with (
        no_leak(),
        key_service_stage(
            settings, threading.Event(), now=lambda: now[0], witness=lambda: now[0]
        ) as stage,
    ):
        client = KeyClient(
            endpoints=[f"https://{HOST}:{stage.port}"],
            identity=Identity.load(kafka.identities, role),
            now=lambda: now[0],
        )
        for _half in range(2):
            stage.run_once(0)
        assert client.opening_key(purpose, epoch, timeout_s=20) is NoKey.EXPIRED
    reader = TopicReader(kafka.cluster, AUDITOR, LEDGER, SHARED["history_partitions"])
    with closing(reader):
        values = [r.value.decode() for r in reader.read_to_end() if r.key == purpose.encode()]
    its = [value for value in values if f'"epoch":{epoch},' in value.replace(" ", "")]
    assert [("unreachable" in v, "unrecoverable" in v) for v in its] == [(1, 0), (0, 1)]


def test_settings_in_which_a_key_outlives_the_promise_are_refused(settings: Settings) -> None:
    with pytest.raises(PromiseExceeded, match="can be opened for"):
        _open(_changed(settings, epoch=timedelta(hours=12)))


def test_what_is_missing_or_taken_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    """Each is refused when a replica starts, before it gives out a key."""
    with pytest.raises(Refused, match="the section keys is missing"):
        _open(settings.model_copy(update={"keys": None}))
    with pytest.raises(Refused, match=r"keys\.masters or keys\.listen_host is missing"):
        _open(_changed(settings, masters=None))
    with pytest.raises(Refused, match="folder of the epochs' master keys is missing"):
        _open(_changed(settings, masters=tmp_path / "nowhere"))
    with socket.create_server((HOST, 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(Refused, match=f"{HOST}:{taken}: Address already in use"):
            _open(_changed(settings, listen_port=taken))
    kafka = settings.kafka.model_copy(update={"identities": tmp_path})
    with pytest.raises(MissingCertificate):
        _open(settings.model_copy(update={"kafka": kafka}))


def _changed(settings: Settings, **changes: object) -> Settings:
    assert settings.keys is not None
    return settings.model_copy(update={"keys": settings.keys.model_copy(update=changes)})


def _open(settings: Settings) -> None:
    with no_leak(), key_service_stage(settings, threading.Event()):
        pass

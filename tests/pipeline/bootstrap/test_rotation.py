"""The rotation as a process opens it: real bucket, keyring and brokers."""

import shutil
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from erasestream.pipeline.bootstrap.rotation import SETTLE_S, rotation_stage
from erasestream.pipeline.bootstrap.storage import open_vault, storage_of
from erasestream.pipeline.settings import Settings
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import Refused
from erasestream.schemas.events.ledger import MasterDestroyed
from erasestream.schemas.ids import GrantId
from erasestream.sinks.buckets.access_policy import MASTERS
from erasestream.sinks.keys.key_vault import KeyVault, key_prefix
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.topics.catalog.roles import AUDITOR, SINK
from erasestream.topics.catalog.topic_names import LEDGER
from tests.flow.topic_reader import TopicReader
from tests.flow.waiting import eventually
from tests.kafka_fixture import SHARED, KafkaFixture
from tests.leaks import no_leak
from tests.sinks.retention_harness import ManualClock

GRANT = GrantId("0b7e6a3c-0000-4000-8000-00000000a7e5")


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Give the test a keyring of its own."""
    storage = storage_of(settings)
    assert storage.keyring
    shutil.copytree(storage.keyring, tmp_path / "keyring")
    own = storage.model_copy(update={"keyring": tmp_path / "keyring"})
    return settings.model_copy(update={"storage": own})


def test_a_rotation_reaches_vault_keyring_and_ledger(
    settings: Settings, kafka: KafkaFixture, tmp_path: Path
) -> None:
    """The ledger has the older version's end, and the grant's key is what it was."""
    keyring = LocalKeyring(tmp_path / "keyring")
    clock, later = ManualClock(), datetime.now(UTC) + timedelta(days=8)
    with no_leak(), open_vault(storage_of(settings), SINK) as vault:

        def key() -> bytes:
            return KeyVault(store=vault, keyring=keyring, clock=clock).key(GRANT)

        before = key()
        with rotation_stage(settings, threading.Event(), now=lambda: later, clock=clock) as stage:

            def is_noted() -> bool:
                stage.run_once(0)
                clock.now += SETTLE_S
                return any(True for _ in vault.list(f"{MASTERS}1"))

            eventually("the note", is_noted, poll_s=0)
            assert stage.is_ready()
        assert keyring.versions() == ("2",)
        assert [info.name for info in vault.list(key_prefix(GRANT))] == [f"{key_prefix(GRANT)}2"]
        assert key() == before
    reader = TopicReader(kafka.cluster, AUDITOR, LEDGER, SHARED["history_partitions"])
    with closing(reader):
        found = [record for record in reader.read_to_end() if record.key == b"1"]
    entries = [from_wire(MasterDestroyed, record.headers, record.value) for record in found]
    assert [entry.master for entry in entries if entry.time.date() == later.date()] == ["1"]


def test_a_keyring_that_cannot_be_used_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Before anything is rotated."""
    (tmp_path / "keyring" / "1.key").chmod(0o644)
    with (
        no_leak(),
        pytest.raises(Refused, match=r"1\.key"),
        rotation_stage(settings, threading.Event()),
    ):
        pass

"""The files that the service `setup` hands out, and a broker that starts with them."""

import gzip
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.pipeline.devstack.kafka.distribution import install_kafka
from erasestream.pipeline.devstack.kafka.readiness import brokers_in_service
from erasestream.pipeline.devstack.polling import poll_until
from erasestream.pipeline.devstack.stack_files import GATEWAY_HOST
from erasestream.pipeline.settings import load
from erasestream.schemas.errors import Unavailable
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.topic_admin import TopicDeclaration, create_topics
from tests.deploy.conftest import COMPOSE, ROOT, run_setup
from tests.raw_kafka import GZIP, NO_ERROR, BatchHeader, RawKafka, batch, varint

SECRETS = {
    "kafka": {"identities/broker.pem"},
    "bucket": {
        "identities/bucket.key",
        *(
            f"tokens/{role}.token"
            for role in ("sink", "reader", "eraser", "rotator", "keys", "auditor")
        ),
    },
    "provision": {"identities/admin.key"},
    "infer": {"identities/inference.key"},
    "route": {"identities/router.key"},
    "sink": {"identities/sink.key", "tokens/sink.token", "name.key"},
    "purge": {"identities/purger.key"},
    "erase": {"identities/eraser.key", "tokens/eraser.token", "name.key"},
    "rotate": {"identities/rotator.key", "tokens/rotator.token"},
    "keyring": {"1.key"},
    "attest": {
        "identities/eraser.key",
        "tokens/eraser.token",
        "receipts/log.pub",
        "receipts/log.key",
        "receipts/secret",
    },
    "keys-1": {"identities/keys.key", "tokens/keys.token"},
    "keys-2": {"identities/keys.key", "tokens/keys.token"},
    "gateway": {
        "identities/gateway.key",
        "identities/web.producer.key",
        "identities/web.consumer.key",
        "identities/web.account.key",
        "session.key",
    },
    "key": {"identities/web.account.key"},
    "consent": {"identities/operator.key"},
    "log": {
        "tokens/auditor.token",
        "receipts/log.pub",
        "receipts/auditor.pub",
        "receipts/auditor.key",
    },
    "receipt": {
        "identities/operator.key",
        "tokens/auditor.token",
        "receipts/log.pub",
        "receipts/auditor.pub",
        "receipts/secret",
    },
    "retained": {"tokens/reader.token"},
    "shop-upload": {"identities/shop.producer.key"},
    "shop-results": {"identities/shop.consumer.key"},
    "bulk-upload": {"identities/bulk.producer.key"},
    "bulk-results": {"identities/bulk.consumer.key"},
}
DEADLINE_S = 180.0


def names_in(certificate: Path) -> set[str]:
    """Return the host names and addresses that a certificate is valid for."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    found = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder, by path."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_each_service_gets_its_own_secrets_only(set_up: Path) -> None:
    """Besides certificates, which are public, exactly the files listed above."""
    handed = set_up / "hand-out"
    assert {folder.name for folder in handed.iterdir()} == SECRETS.keys()
    for service, expected in SECRETS.items():
        found = {name for name in files(handed / service) if not name.endswith(".crt")}
        assert found == expected, service


def test_handed_out_files_are_private(set_up: Path) -> None:
    for path in (set_up / "hand-out").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_servers_have_names_of_their_own(set_up: Path) -> None:
    """A client of one refuses the others' certificates."""
    handed = set_up / "hand-out"
    bucket = names_in(handed / "bucket/identities/bucket.crt")
    assert bucket == {"bucket"}
    broker = names_in(set_up / "authority/made/identities/broker.crt")
    assert broker == {"kafka", "localhost", "127.0.0.1"}
    assert names_in(handed / "keys-1/identities/keys.crt") == {"keys-1", "keys-2"}
    assert names_in(handed / "gateway/identities/gateway.crt") == {"gateway", GATEWAY_HOST}


def test_a_second_run_changes_nothing(set_up: Path) -> None:
    before = files(set_up)
    run_setup(set_up)
    assert files(set_up) == before


def test_a_master_key_that_is_destroyed_does_not_come_back(tmp_path: Path) -> None:
    """Neither from a copy nor by another run; one that was interrupted is finished."""
    run_setup(tmp_path)
    assert [*tmp_path.rglob("*.key")].count(tmp_path / "hand-out/keyring/1.key") == 1
    assert [path.name for path in (tmp_path / "authority").rglob("1.key*")] == []
    keyring = LocalKeyring(tmp_path / "hand-out/keyring")
    keyring.rotate()
    keyring.destroy("1")
    run_setup(tmp_path)
    assert keyring.versions() == ("2",)


def test_files_of_an_interrupted_run_are_not_handed_out(tmp_path: Path) -> None:
    half = tmp_path / "authority/draft/identities"
    half.mkdir(parents=True)
    (half / "ca.crt").write_text("half")
    run_setup(tmp_path)
    authority = (tmp_path / "hand-out/infer/identities/ca.crt").read_bytes()
    assert authority == (tmp_path / "authority/made/authority/ca.crt").read_bytes()


def test_the_catalog_is_that_of_the_embedded_stack(set_up: Path) -> None:
    """The same topics, lifetimes and rights as in the settings that the command writes."""
    written = load(set_up / "authority/made/erasestream.toml")
    assert load(COMPOSE / "erasestream.toml").catalog() == written.catalog()


@pytest.fixture
def broker_files(set_up: Path, tmp_path: Path) -> tuple[Path, int]:
    """Return the broker's configuration with this machine's addresses and paths, and its port."""
    port, controller_port = free_ports(2)
    folder = tmp_path / "etc"
    shutil.copytree(COMPOSE, folder)
    text = (COMPOSE / "server.properties").read_text()
    for here, there in (
        ("kafka:9092", f"127.0.0.1:{port}"),
        ("kafka:9093", f"127.0.0.1:{controller_port}"),
        ("/var/lib/kafka/data", str(tmp_path / "data")),
        ("/stack", str(set_up / "hand-out/kafka")),
    ):
        text = text.replace(here, there)
    (folder / "server.properties").write_text(text)
    return folder, port


def test_the_broker_starts_with_these_files(
    set_up: Path, broker_files: tuple[Path, int], tmp_path: Path
) -> None:
    """The start script formats and starts a broker that answers the administrator over TLS.

    A record that claims 2 GB does not end it.
    """
    folder, port = broker_files
    log = tmp_path / "broker.log"
    environment = os.environ | {
        "ERASESTREAM_FOLDER": str(folder),
        "KAFKA_LIBS": str(install_kafka(ROOT / ".cache", print)),
        "KAFKA_DATA": str(tmp_path / "data"),
    }
    identities = set_up / "hand-out/provision/identities"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["sh", str(folder / "kafka.sh")], env=environment, stdout=output, stderr=output
        ) as process,
    ):
        try:
            assert _in_service(process, port, identities) == {1}, log.read_text()[-2000:]
            cluster = Cluster(bootstrap_servers=(f"127.0.0.1:{port}",), identities=identities)
            assert _error_of_a_false_claim(cluster) != NO_ERROR
            assert _in_service(process, port, identities) == {1}, log.read_text()[-2000:]
        finally:
            process.send_signal(signal.SIGTERM)
    # Java exits with 143 on SIGTERM: the signal reached it, and no shell that would ignore it.
    assert process.returncode == 128 + signal.SIGTERM
    assert "App info kafka.server for 1 unregistered" in log.read_text().splitlines()[-1]


def _error_of_a_false_claim(cluster: Cluster) -> int:
    """Return the error code for a compressed record that claims 2 GB."""
    declared = TopicDeclaration("claims", 1, 1, {"compression.type": "uncompressed"})
    with Admin(Connection(cluster=cluster, role=ADMIN)) as admin:
        create_topics(admin, [declared])
    claim = batch(gzip.compress(varint(2_000_000_000)), BatchHeader(count=1, attributes=GZIP))
    with RawKafka(cluster, ADMIN) as attacker:
        return attacker.produce("claims", 0, claim).error


def _in_service(process: "subprocess.Popen[bytes]", port: int, identities: Path) -> frozenset[int]:
    def found() -> frozenset[int] | None:
        try:
            return brokers_in_service(f"127.0.0.1:{port}", identities, "admin")
        except Unavailable:
            return None

    poll_until(lambda: process.poll() is not None or found(), timeout_s=DEADLINE_S, poll_s=0.2)
    return found() or frozenset()

"""Files of an identity that cannot work are refused by name, before any network."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.schemas.errors import CertificateRefused, Code, ErasestreamError
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, LaneRole, Role, lane_role
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Cluster, parse_key_endpoint
from erasestream.topics.kafka.tls import Identity
from tests.paths import ROOT

LANE = Lane("shop")
NO_SERVER = ("127.0.0.1:9",)
PASS_PHRASE = b"a pass phrase"

Fault = Callable[[Path, Role], str]
"""Breaks the identity of a role in a folder; returns the name of the file at fault."""


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Issue the identities of a lane's clients, and another role's."""
    folder = tmp_path_factory.mktemp("identities")
    authority = CertificateAuthority.create(folder / "authority", now=lambda: datetime.now(UTC))
    for role in (lane_role(LANE, LaneRole.PRODUCER), lane_role(LANE, LaneRole.CONSUMER), ADMIN):
        authority.issue_role(role, folder / "identities")
    return folder / "identities"


@pytest.fixture
def identities(intact: Path, tmp_path: Path) -> Path:
    """Copy them for one test."""
    return Path(shutil.copytree(intact, tmp_path / "identities"))


def _overwritten(suffix: str, data: bytes) -> Fault:
    def fault(folder: Path, role: Role) -> str:
        (folder / f"{role}{suffix}").write_bytes(data)
        return f"{role}{suffix}"

    return fault


def _foreign_key(folder: Path, role: Role) -> str:
    shutil.copy(folder / f"{ADMIN}.key", folder / f"{role}.key")
    return f"{role}.key"


def _key_of_another_type(folder: Path, role: Role) -> str:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{role}.key").write_bytes(pem)
    return f"{role}.key"


def _encrypted_key(folder: Path, role: Role, *, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    path = folder / f"{role}.key"
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(PASS_PHRASE)))
    return path.name


def _traditional_encrypted_key(folder: Path, role: Role) -> str:
    return _encrypted_key(folder, role, form=PrivateFormat.TraditionalOpenSSL)


def _key_in_der(folder: Path, role: Role) -> str:
    path = folder / f"{role}.key"
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    return path.name


def _cut_key(folder: Path, role: Role) -> str:
    path = folder / f"{role}.key"
    path.write_bytes(path.read_bytes()[:-60])
    return path.name


def _key_as_certificate(folder: Path, role: Role) -> str:
    shutil.copy(folder / f"{role}.key", folder / f"{role}.crt")
    return f"{role}.crt"


def _key_as_authority(folder: Path, role: Role) -> str:
    shutil.copy(folder / f"{role}.key", folder / "ca.crt")
    return "ca.crt"


def _broken_authority(folder: Path, _role: Role) -> str:
    (folder / "ca.crt").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
    return "ca.crt"


FAULTS = {
    "key: garbage": _overwritten(".key", b"not a key"),
    "key: empty": _overwritten(".key", b""),
    "key: another's": _foreign_key,
    "key: another type": _key_of_another_type,
    "key: encrypted": _encrypted_key,
    "key: encrypted as of old": _traditional_encrypted_key,
    "key: DER": _key_in_der,
    "key: cut": _cut_key,
    "certificate: garbage": _overwritten(".crt", b"\x00\xff" * 50),
    "certificate: empty": _overwritten(".crt", b""),
    "certificate: a key": _key_as_certificate,
    "authority: a key": _key_as_authority,
    "authority: broken": _broken_authority,
}

CLIENTS: dict[LaneRole, Callable[[Cluster], object]] = {
    LaneRole.PRODUCER: lambda cluster: UploadProducer(cluster, LANE, sealed=False),
    LaneRole.CONSUMER: lambda cluster: ResultSubscription(cluster, LANE, group="g"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_names_the_file_that_is_at_fault(
    identities: Path, client: LaneRole, fault: str
) -> None:
    """Without asking any broker; the message holds nothing of the file."""
    at_fault = FAULTS[fault](identities, lane_role(LANE, client))
    cluster = Cluster(bootstrap_servers=NO_SERVER, identities=identities)
    with pytest.raises(CertificateRefused) as refused:
        CLIENTS[client](cluster)
    assert refused.value.code is Code.CERTIFICATE_REFUSED
    assert f"{identities / at_fault}: " in refused.value.sentence


@pytest.mark.parametrize("fault", ["key: another's", "key: another type"])
def test_a_valid_key_of_another_certificate_is_not_called_malformed(
    identities: Path, fault: str
) -> None:
    role = lane_role(LANE, LaneRole.CONSUMER)
    FAULTS[fault](identities, role)
    with pytest.raises(CertificateRefused, match="not the key of"):
        Identity.load(identities, role)


def test_a_folder_that_cannot_be_searched_is_refused() -> None:
    """The system's own error names the reason: here the name is too long."""
    with pytest.raises(CertificateRefused, match=r"ca\.crt: "):
        Identity.load(Path("x" * 5000), ADMIN)


def test_a_command_asks_for_no_pass_phrase(identities: Path, tmp_path: Path) -> None:
    """Although it has a terminal to ask on."""
    _encrypted_key(identities, ADMIN)
    settings = tmp_path / "erasestream.toml"
    settings.write_text(
        f'[kafka]\nbootstrap_servers = ["{NO_SERVER[0]}"]\nidentities = "{identities}"\n'
        "[lanes.shop]\n"
    )
    environment = {
        "ERASESTREAM_SETTINGS": str(settings),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
    }
    command = f"{sys.executable} -m erasestream.pipeline.cli.main provision"
    ended = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == 78, ended.stdout
    assert "pass phrase is needed" in ended.stdout
    assert "Enter PEM" not in ended.stdout


def test_a_renewal_with_an_encrypted_key_is_not_due(identities: Path) -> None:
    """The clients keep the files that they have."""
    watcher = CertificateWatcher(Identity.load(identities, ADMIN), look_every_s=0.0)
    _encrypted_key(identities, ADMIN)
    assert not watcher.is_due()


def _refused(**given: object) -> ErasestreamError:
    with pytest.raises(ErasestreamError) as refused:
        Cluster(**given)  # type: ignore[arg-type]
    return refused.value


def test_servers_and_folder_may_be_strings() -> None:
    one = Cluster(bootstrap_servers="kafka-1.example:9093", identities="identities")
    assert one.bootstrap_servers == ("kafka-1.example:9093",)
    assert one.identities == Path("identities")
    two = Cluster(bootstrap_servers="a:1, [::1]:65535", identities=Path("identities"))
    assert two.bootstrap_servers == ("a:1", "[::1]:65535")
    assert Cluster(bootstrap_servers=["a:1"], identities=two.identities) == Cluster(
        bootstrap_servers=("a:1",), identities="identities"
    )


@pytest.mark.parametrize(
    "servers",
    ["", "a", "a:1,", "a:0", "a:65536", "a:1 b:2", "ssl://a:1", ":1", (), ("",), b"a:1", None, 1],
)
def test_servers_that_cannot_be_are_refused(servers: object) -> None:
    error = _refused(bootstrap_servers=servers, identities=Path("identities"))
    assert error.code is Code.MISCONFIGURED
    assert "host:port" in error.sentence


@pytest.mark.parametrize("folder", [None, 1, b"identities"])
def test_a_folder_that_cannot_be_is_refused(folder: object) -> None:
    error = _refused(bootstrap_servers=NO_SERVER, identities=folder)
    assert error.code is Code.MISCONFIGURED


def test_endpoints_of_the_key_service_may_be_one_string() -> None:
    def endpoints(given: str | tuple[str, ...]) -> tuple[str, ...]:
        return Cluster(bootstrap_servers="a:1", identities=".", key_endpoints=given).key_endpoints

    assert Cluster(bootstrap_servers="a:1", identities=".").key_endpoints == ()
    assert endpoints("https://k:9443, https://[::1]:1/") == ("https://k:9443", "https://[::1]:1/")
    assert endpoints(("https://k:9443",)) == endpoints("https://k:9443")
    assert parse_key_endpoint("https://[::1]:1/") == ("::1", 1)


@pytest.mark.parametrize(
    "endpoints", ["", "k:1", "http://k:1", "https://k", "https://k:1/x", "https://k:0", None, 1]
)
def test_endpoints_that_cannot_be_are_refused(endpoints: object) -> None:
    error = _refused(bootstrap_servers="a:1", identities=".", key_endpoints=endpoints)
    assert error.code is Code.MISCONFIGURED
    assert "https://host:port" in error.detail

"""The keyring that the settings name."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from erasestream.pipeline.bootstrap import keyring as bootstrap
from erasestream.pipeline.bootstrap.keyring import create_keyring, open_keyring
from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.settings import StorageSettings
from erasestream.schemas.errors import Refused
from erasestream.sinks.keys.cloud_kms_keyring import CloudKmsKeyring
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.topics.catalog.roles import READER, SINK
from tests.kms.server import DAY, RING, local_kms

KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"


def storage(tmp_path: Path, **changes: Any) -> StorageSettings:
    values = {"bucket": "i", "vault": "v", "name_key": tmp_path / "name.key", "tokens": tmp_path}
    return StorageSettings.model_validate(values | changes)


def test_files_or_cloud_kms(tmp_path: Path) -> None:
    LocalKeyring.create(tmp_path / "keyring")
    token = tmp_path / "sink.token"
    token.touch(mode=0o600)
    with open_keyring(storage(tmp_path, keyring=tmp_path / "keyring"), SINK) as files:
        assert isinstance(files, LocalKeyring)
    own = storage(tmp_path, kms_key=KEY, kms_endpoint="https://127.0.0.1:1")
    with open_keyring(own, SINK) as cloud:
        assert isinstance(cloud, CloudKmsKeyring)
    with pytest.raises(Refused, match=r"reader\.token"), open_keyring(own, READER):
        pass


@pytest.mark.parametrize("keys", [{}, {"keyring": "/k", "kms_key": KEY}])
def test_there_is_one_master_key(tmp_path: Path, keys: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="either keyring or kms_key"):
        storage(tmp_path, **keys)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "find_spec", lambda _name: None)
    with (
        pytest.raises(Refused, match=r"erasestream\[kms\]"),
        open_keyring(storage(tmp_path, kms_key=KEY), SINK),
    ):
        pass


def test_a_master_key_is_created_once(tmp_path: Path) -> None:
    files = storage(tmp_path, keyring=tmp_path / "keyring")
    assert create_keyring(files, destroyed_within=DAY) == str(tmp_path / "keyring")
    authority = CertificateAuthority.create(tmp_path / "ca", now=lambda: datetime.now(UTC))
    authority.issue_server("kms", tmp_path)
    with local_kms(tmp_path) as kms:
        endpoint, key = kms.settings("", "admin").endpoint, f"{RING}/cryptoKeys/grants"
        cloud = storage(tmp_path, kms_key=key, kms_endpoint=endpoint, ca=tmp_path / "ca.crt")
        assert create_keyring(cloud, destroyed_within=DAY) == key
        with open_keyring(cloud, SINK) as keyring:
            keyring.wrap(bytes(32), b"")
        for own in (files, cloud):
            with pytest.raises(Refused, match="it was not changed"):
                create_keyring(own, destroyed_within=DAY)
        assert kms.server.keys[key].message.destroy_scheduled_duration == DAY

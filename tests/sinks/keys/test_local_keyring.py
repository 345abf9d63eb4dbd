"""The local keyring: wrapping, contexts, versions and file modes."""

import stat
from pathlib import Path

import pytest

from erasestream.schemas.errors import Refused, SealBroken
from erasestream.sinks.keys.local_keyring import LocalKeyring

KEY = bytes(range(32))


@pytest.fixture
def keyring(tmp_path: Path) -> LocalKeyring:
    return LocalKeyring.create(tmp_path / "master")


def test_a_wrapped_key_unwraps(keyring: LocalKeyring) -> None:
    """The wrapped bytes do not contain the key, and differ each time."""
    version, raw = keyring.wrap(KEY, b"grant")
    assert keyring.unwrap(version, raw, b"grant") == KEY
    assert KEY not in raw
    assert keyring.wrap(KEY, b"grant").raw != raw


def test_a_key_unwraps_only_for_its_context(keyring: LocalKeyring) -> None:
    version, raw = keyring.wrap(KEY, b"grant")
    with pytest.raises(SealBroken):
        keyring.unwrap(version, raw, b"another grant")


def test_every_flipped_byte_is_refused(keyring: LocalKeyring) -> None:
    version, raw = keyring.wrap(KEY, b"grant")
    for at in range(len(raw)):
        with pytest.raises(SealBroken):
            keyring.unwrap(version, raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], b"grant")


@pytest.mark.parametrize("version", ["2", "0", "../master/1", "", "1.key"])
def test_an_unknown_version_unwraps_nothing(keyring: LocalKeyring, version: str) -> None:
    """A version that does not exist, or is not a version."""
    raw = keyring.wrap(KEY, b"grant").raw
    with pytest.raises(SealBroken):
        keyring.unwrap(version, raw, b"grant")


def test_an_old_version_unwraps_until_it_is_destroyed(
    keyring: LocalKeyring, tmp_path: Path
) -> None:
    """After a rotation the new version wraps, in other processes too."""
    old = keyring.wrap(KEY, b"grant")
    assert keyring.rotate() == "2"
    other_process = LocalKeyring(tmp_path / "master")
    assert other_process.versions() == ("2", "1")
    assert other_process.wrap(KEY, b"grant").version == "2"
    assert other_process.unwrap(*old, b"grant") == KEY
    keyring.destroy("1")
    with pytest.raises(SealBroken):
        other_process.unwrap(*old, b"grant")
    with pytest.raises(Refused):
        keyring.destroy("2")


def test_master_keys_are_private(keyring: LocalKeyring, tmp_path: Path) -> None:
    """A key file that others can read is refused."""
    path = tmp_path / "master" / "1.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    with pytest.raises(Refused):
        keyring.wrap(KEY, b"grant")


def test_an_existing_keyring_is_not_replaced_and_a_missing_one_is_refused(
    keyring: LocalKeyring, tmp_path: Path
) -> None:
    with pytest.raises(Refused):
        LocalKeyring.create(tmp_path / "master")
    with pytest.raises(Refused):
        LocalKeyring(tmp_path / "nowhere")
    assert keyring.versions() == ("1",)

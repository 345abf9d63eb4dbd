"""The local keyring: its folder, the modes of its files, and what a killed process leaves."""

import stat
from pathlib import Path

import pytest

from erasestream.schemas.errors import Refused
from erasestream.sinks.keys.keyring import VersionState
from erasestream.sinks.keys.local_keyring import LocalKeyring

KEY = bytes(range(32))


@pytest.fixture
def keyring(tmp_path: Path) -> LocalKeyring:
    return LocalKeyring.create(tmp_path / "master")


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


def test_a_copy_that_a_killed_process_left_is_destroyed_too(
    keyring: LocalKeyring, tmp_path: Path
) -> None:
    """Until then the version is not seen destroyed."""
    left = tmp_path / "master" / ".1.key.1234.abcd"
    left.write_bytes((tmp_path / "master" / "1.key").read_bytes())
    keyring.rotate()
    (tmp_path / "master" / "1.key").unlink()
    assert keyring.state("1") is VersionState.ENABLED
    keyring.destroy("1")
    assert keyring.state("1") is VersionState.DESTROYED
    assert not left.exists()


def test_an_empty_folder_vouches_for_no_destruction(keyring: LocalKeyring, tmp_path: Path) -> None:
    """As where a disk is not mounted."""
    (tmp_path / "master" / "1.key").unlink()
    with pytest.raises(Refused):
        keyring.history()
    with pytest.raises(Refused):
        keyring.state("1")


def test_a_link_is_no_key_that_was_destroyed(keyring: LocalKeyring, tmp_path: Path) -> None:
    """Neither one whose disk is not mounted, nor one that would leave its key behind."""
    path, elsewhere = tmp_path / "master" / "1.key", tmp_path / "elsewhere.key"
    keyring.rotate()
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(Refused, match="link"):
        keyring.destroy("1")
    elsewhere.rename(tmp_path / "unmounted.key")
    assert keyring.state("1") is VersionState.ENABLED
    assert [each.state for each in keyring.history()] == 2 * [VersionState.ENABLED]

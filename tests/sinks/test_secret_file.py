"""Secrets are refused if another account can read them."""

import grp
import os
import pwd
from pathlib import Path

import pytest

from erasestream.schemas.errors import Code, MissingCertificate, Refused
from erasestream.sinks.secret_file import is_exposed, read_secret

OWN_GROUP = 54_321
"""A group that no account of this machine has."""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "name.key"
    path.write_bytes(bytes(32))
    path.chmod(0o600)
    return path


def status(mode: int, gid: int = OWN_GROUP) -> os.stat_result:
    """Return the status of a file with these rights."""
    return os.stat_result((0o100000 | mode, 0, 0, 1, os.geteuid(), gid, 32, 0, 0, 0))


def test_a_secret_of_the_right_size_is_read(secret: Path) -> None:
    assert read_secret(secret, size=32) == bytes(32)


@pytest.mark.parametrize("size", [31, 33])
def test_another_size_is_refused(secret: Path, size: int) -> None:
    with pytest.raises(Refused, match=rf"must hold {size} bytes"):
        read_secret(secret, size=size)


def test_a_missing_secret_is_refused_naming_it(tmp_path: Path) -> None:
    with pytest.raises(MissingCertificate, match=r"name\.key") as refused:
        read_secret(tmp_path / "name.key", size=32)
    assert refused.value.code is Code.MISSING_CERTIFICATE


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o601, 0o620, 0o660, 0o444])
def test_a_secret_that_others_can_read_or_a_group_can_write_is_refused(
    secret: Path, mode: int
) -> None:
    secret.chmod(mode)
    with pytest.raises(Refused, match="readable by this account only"):
        read_secret(secret, size=32)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640])
def test_modes_that_kubernetes_makes_are_accepted(mode: int) -> None:
    """A volume of secrets belongs to the group `fsGroup`, which only the process has."""
    assert OWN_GROUP not in {group.gr_gid for group in grp.getgrall()}
    assert not is_exposed(status(mode))


def test_a_group_of_another_account_makes_a_secret_exposed() -> None:
    other = next(account for account in pwd.getpwall() if account.pw_uid != os.geteuid())
    assert is_exposed(status(0o440, other.pw_gid))
    assert not is_exposed(status(0o400, other.pw_gid))


def test_a_group_with_other_members_makes_a_secret_exposed(monkeypatch: pytest.MonkeyPatch) -> None:
    own = pwd.getpwuid(os.geteuid()).pw_name
    for members, exposed in (([], False), ([own], False), ([own, "another"], True)):
        group = grp.struct_group(("secrets", "x", OWN_GROUP, members))
        monkeypatch.setattr(grp, "getgrgid", {OWN_GROUP: group}.__getitem__)
        assert is_exposed(status(0o440)) is exposed

"""Laws of every keyring: wrapping, contexts, versions, and destruction that is seen."""

from datetime import timedelta

import pytest

from erasestream.schemas.errors import InvariantBroken, Refused, SealBroken
from erasestream.sinks.keys.keyring import MAX_KEYS, VERSIONS_AGE_S, VersionState
from tests.kms.server import DAY
from tests.sinks.keys.conftest import Opened

KEY = bytes(range(32))
KNOWN = timedelta(seconds=VERSIONS_AGE_S)


def states(opened: Opened) -> list[VersionState]:
    """Return the states of all versions, oldest first."""
    return [each.state for each in opened.keyring.history()]


def test_wrapped_keys_unwrap(opened: Opened) -> None:
    """One or several at a time; the bytes do not contain the key, and differ each time."""
    for keys in (KEY, bytes(reversed(KEY)) + KEY, bytes(32 * MAX_KEYS)):
        version, raw = opened.keyring.wrap(keys, b"grant")
        assert opened.other.unwrap(version, raw, b"grant") == keys
        assert KEY not in raw
        assert opened.keyring.wrap(keys, b"grant").raw != raw


@pytest.mark.parametrize("length", [0, 31, 33, 32 * (MAX_KEYS + 1)])
def test_only_keys_are_wrapped(opened: Opened, length: int) -> None:
    with pytest.raises(InvariantBroken):
        opened.keyring.wrap(bytes(length), b"grant")


def test_a_key_unwraps_only_for_its_context(opened: Opened) -> None:
    version, raw = opened.keyring.wrap(KEY, b"grant")
    with pytest.raises(SealBroken):
        opened.keyring.unwrap(version, raw, b"another grant")


def test_every_flipped_byte_is_refused(opened: Opened) -> None:
    version, raw = opened.keyring.wrap(KEY, b"grant")
    for at in range(len(raw)):
        with pytest.raises(SealBroken):
            opened.keyring.unwrap(
                version, raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], b"grant"
            )
    for broken in (b"", raw[:-1], raw + b"\0"):
        with pytest.raises(SealBroken):
            opened.keyring.unwrap(version, broken, b"grant")


@pytest.mark.parametrize("version", ["9", "0", "../master/1", "", "1.key", "kms-0123456789ab-1"])
def test_an_unknown_version_unwraps_nothing(opened: Opened, version: str) -> None:
    raw = opened.keyring.wrap(KEY, b"grant").raw
    with pytest.raises(SealBroken):
        opened.keyring.unwrap(version, raw, b"grant")


def test_a_key_does_not_unwrap_under_another_version(opened: Opened) -> None:
    """So that no key is taken for one whose master is destroyed, or the other way round."""
    raw = opened.keyring.wrap(KEY, b"grant").raw
    opened.keyring.rotate()
    with pytest.raises(SealBroken):
        opened.keyring.unwrap(opened.keyring.versions()[0], raw, b"grant")


def test_an_old_version_unwraps_until_it_is_destroyed(opened: Opened) -> None:
    """Other processes wrap under a new version once they know of it."""
    old = opened.other.wrap(KEY, b"grant")
    opened.keyring.rotate()
    opened.pass_time(KNOWN)
    new, same = opened.other.versions()
    assert same == old.version
    assert opened.other.wrap(KEY, b"grant").version == new
    assert opened.other.unwrap(*old, b"grant") == KEY
    opened.keyring.destroy(old.version)
    opened.keyring.destroy(old.version)  # idempotent
    with pytest.raises(SealBroken):
        opened.other.unwrap(*old, b"grant")
    opened.pass_time(KNOWN)
    assert opened.other.versions() == (new,)


def test_a_version_is_destroyed_once_that_is_seen(opened: Opened) -> None:
    """All versions are remembered, and when the newest was made."""
    old = opened.keyring.versions()[0]
    opened.keyring.rotate()
    assert states(opened) == [VersionState.ENABLED] * 2
    opened.keyring.destroy(old)
    asked = opened.keyring.state(old)
    assert asked in {VersionState.SCHEDULED, VersionState.DESTROYED}
    opened.pass_time(DAY)
    assert opened.other.state(old) is VersionState.DESTROYED
    opened.keyring.destroy(old)
    assert states(opened) == [VersionState.DESTROYED, VersionState.ENABLED]
    assert opened.keyring.history()[-1].created is not None


def test_the_newest_version_is_never_destroyed(opened: Opened) -> None:
    opened.keyring.rotate()
    with pytest.raises(Refused):
        opened.keyring.destroy(opened.keyring.versions()[0])
    assert states(opened) == [VersionState.ENABLED] * 2

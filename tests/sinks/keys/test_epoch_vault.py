"""Keys of epochs in a real bucket: created once, bound to their names, destroyed for good."""

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.schemas.errors import NotFound, Refused, SealBroken
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.keys.epoch_masters import LocalEpochMasters
from erasestream.sinks.keys.epoch_vault import EpochVault, KeyName
from erasestream.topics.catalog.epochs import EpochTimes

NOW = datetime(2026, 5, 6, 7, 8, tzinfo=UTC)
TIMES = EpochTimes()
EPOCH = TIMES.number(NOW)
DEAD = TIMES.dies(EPOCH)
Open = Callable[[], EpochVault]
_numbers = count()


@pytest.fixture
def name() -> KeyName:
    """Return the name of a key of this test only."""
    return KeyName(f"results.vault-{next(_numbers)}", EPOCH)


@pytest.fixture
def masters(tmp_path: Path) -> LocalEpochMasters:
    (tmp_path / "masters").mkdir(mode=0o700)
    return LocalEpochMasters(tmp_path / "masters")


@pytest.fixture
def replica(stack: Any, masters: LocalEpochMasters) -> Open:
    return lambda: EpochVault(store=stack.store("vault", Role.KEYS), masters=masters, times=TIMES)


def test_replicas_agree_on_one_pair(replica: Open, name: KeyName) -> None:
    """All create at once; what each returns is the winner's, and public and private match."""
    found: list[tuple[bytes, bytes]] = []
    start = threading.Barrier(4)

    def create() -> None:
        vault = replica()
        start.wait()
        found.append(vault.find_or_create(name, NOW))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    public, private = found[0]
    its = X25519PrivateKey.from_private_bytes(private).public_key()
    assert its.public_bytes_raw() == public


def test_pairs_are_independent(replica: Open, name: KeyName) -> None:
    vault = replica()
    pairs = {vault.find_or_create(KeyName(name.purpose, EPOCH + n), NOW) for n in (0, 1)}
    assert len(pairs) == 2


@pytest.mark.parametrize("offset", [-1, 2])
def test_only_this_epoch_and_the_next_are_created(
    replica: Open, name: KeyName, offset: int
) -> None:
    """So that a deleted pair never comes back, even by a replica whose clock is behind."""
    with pytest.raises(NotFound):
        replica().find_or_create(name._replace(epoch=EPOCH + offset), NOW)


def test_a_dead_key_is_not_returned_from_cache_or_vault(replica: Open, name: KeyName) -> None:
    vault = replica()
    vault.find_or_create(name, NOW)
    assert vault.find(name, DEAD - timedelta(seconds=1))
    with pytest.raises(NotFound):
        vault.find(name, DEAD)
    with pytest.raises(NotFound):
        replica().find(name, DEAD)


def test_a_pair_fits_no_other_name(stack: Any, replica: Open, name: KeyName) -> None:
    """Copied to another purpose or with another public key it is broken."""
    replica().find_or_create(name, NOW)
    store = stack.store("vault", Role.KEYS)
    raw = store.read(f"epochs/{name}", 1000)
    other, changed = name._replace(purpose=f"{name.purpose}-b"), name._replace(epoch=EPOCH + 1)
    store.create(f"epochs/{other}", raw, "application/octet-stream")
    store.create(f"epochs/{changed}", bytes(32) + raw[32:], "application/octet-stream")
    for broken in (other, changed):
        with pytest.raises(SealBroken):
            replica().find(broken, NOW)


def test_destroying_verifies_absence_and_drops_the_cache(
    stack: Any, replica: Open, name: KeyName
) -> None:
    vault = replica()
    public = vault.find_or_create(name, NOW).public
    assert name not in vault.due(DEAD - timedelta(seconds=1))
    assert name in vault.due(DEAD)
    vault.destroy(name)
    vault.destroy(name)  # idempotent, as by another replica
    assert name not in vault.due(DEAD)
    with pytest.raises(NotFound):
        vault.find(name, NOW)
    (note,) = [pair for pair in vault.destroyed() if pair.name == name]
    assert note.public_key_sha256 == hashlib.sha256(public).hexdigest()
    assert not note.is_reported
    vault.mark_reported(name)
    assert [pair.is_reported for pair in vault.destroyed() if pair.name == name] == [True]
    vault.forget(name)
    assert name not in [pair.name for pair in vault.destroyed()]
    listed = stack.store("vault", Role.AUDITOR).list("")
    assert not [found.name for found in listed if f"{name}" in found.name]


def test_a_broken_pair_is_deleted_too(stack: Any, replica: Open, name: KeyName) -> None:
    store = stack.store("vault", Role.KEYS)
    store.create(f"epochs/{name}", bytes(500), "application/octet-stream")
    replica().destroy(name)
    assert not store.exists(f"epochs/{name}")


def test_a_copy_of_the_vault_is_worthless_once_its_master_is_destroyed(
    stack: Any, replica: Open, masters: LocalEpochMasters, name: KeyName, tmp_path: Path
) -> None:
    """The copy of pair and masters opens before, and the same copy of the pair does not after."""
    private = replica().find_or_create(name, NOW).private
    store = stack.store("vault", Role.KEYS)
    copy = store.read(f"epochs/{name}", 1000)
    replica().destroy(name)
    store.create(f"epochs/{name}", copy, "application/octet-stream")
    assert replica().find(name, NOW).private == private
    assert masters.epochs() == (EPOCH,)
    left = tmp_path / "masters" / f".{EPOCH}.key.1234.abcd"
    left.write_bytes(b"what a killed replica left of it")
    masters.destroy(EPOCH)
    masters.destroy(EPOCH)
    assert list((tmp_path / "masters").iterdir()) == []
    with pytest.raises(SealBroken):
        replica().find(name, NOW)


def test_the_private_key_is_not_shown(replica: Open, name: KeyName) -> None:
    pair = replica().find_or_create(name, NOW)
    assert repr(pair) == "KeyPair(...)"
    assert pair.private.hex() not in f"{pair}"


def test_a_missing_folder_of_masters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        LocalEpochMasters(tmp_path / "nowhere")

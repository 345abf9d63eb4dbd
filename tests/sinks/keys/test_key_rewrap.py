"""Keys of living grants move to the newest master key; those of erased grants never come back."""

from typing import Any

import pytest

from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import GrantId
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.keys.key_rewrap import GrantKeys, KeyRewrapper, Outcome
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S, key_prefix, mark_erased
from tests.sinks.retention_harness import RetentionHarness, listed, picture

OLD = frozenset({"1"})


def rewrapper(harness: RetentionHarness, store: GcsObjectStore | None = None) -> KeyRewrapper:
    store = store or harness.stack.store("vault", Role.ROTATOR)
    return KeyRewrapper(store=store, keyring=harness.keyring, clock=harness.clock)


def versions(harness: RetentionHarness, grant: GrantId) -> list[str]:
    """Return the versions under which the vault has a key."""
    found = harness.eraser().list(key_prefix(grant))
    return [info.name.removeprefix(key_prefix(grant)) for info in found]


def test_pictures_of_before_and_after_open(harness: RetentionHarness, grant: GrantId) -> None:
    """No object is touched; the older master key is not needed any more."""
    sink, events = harness.sink(), [picture(grant, data=bytes([n]) * 40) for n in (1, 2)]
    sink.store(events[0])
    before = listed(harness, events[0])
    images = harness.stack.store("images", Role.READER)
    raw = images.read(before[0], 10_000)
    harness.keyring.rotate()
    found = GrantKeys(grant, ("1",))
    assert rewrapper(harness).rewrap(found, OLD, "2") is Outcome.MOVED
    harness.keyring.destroy("1")
    assert versions(harness, grant) == ["2"]
    harness.sink().store(events[1])
    assert set(before) < set(listed(harness, events[0]))
    assert images.read(before[0], 10_000) == raw
    opened = {harness.reader().open(name).plaintext for name in listed(harness, events[0])}
    assert opened == {event.data for event in events}


def test_only_grants_with_an_older_key_are_found(harness: RetentionHarness, grant: GrantId) -> None:
    other = GrantId(f"{grant[:-4]}0000")
    harness.vault().key(grant)
    harness.keyring.rotate()
    harness.vault().key(other)
    found = {each.grant: each.versions for each in rewrapper(harness).outdated(OLD)}
    assert found[grant] == ("1",)
    assert other not in found


def test_a_rotator_that_was_stopped_creates_no_key(
    harness: RetentionHarness, grant: GrantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw that there is no marker, and goes on when the eraser has looked for the last time."""
    harness.vault().key(grant)
    harness.keyring.rotate()
    wrap = harness.keyring.wrap

    def stop_before(keys: bytes, context: bytes) -> object:
        harness.clock.now += CACHE_LIMIT_S
        mark_erased(harness.eraser(), grant)
        harness.eraser().delete(f"{key_prefix(grant)}1")
        return wrap(keys, context)

    monkeypatch.setattr(harness.keyring, "wrap", stop_before)
    with pytest.raises(Unavailable):
        rewrapper(harness).rewrap(GrantKeys(grant, ("1",)), OLD, "2")
    assert versions(harness, grant) == []
    assert rewrapper(harness).rewrap(GrantKeys(grant, ("1",)), OLD, "2") is Outcome.ERASED


class ErasedMeanwhile(GcsObjectStore):
    """The rotator's vault; an eraser marks the grant right before a key is created."""

    harness: RetentionHarness
    grant: GrantId

    def create(self, name: str, data: bytes, content_type: str) -> None:
        mark_erased(self.harness.eraser(), self.grant)
        super().create(name, data, content_type)


def test_a_grant_that_is_erased_meanwhile_is_left(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """With both names: the eraser, which looks again, deletes and notes them."""
    harness.vault().key(grant)
    harness.keyring.rotate()
    store: Any = harness.stack.store("vault", Role.ROTATOR)
    store.__class__ = ErasedMeanwhile
    store.harness, store.grant = harness, grant
    outcome = rewrapper(harness, store).rewrap(GrantKeys(grant, ("1",)), OLD, "2")
    assert outcome is Outcome.ERASED
    assert versions(harness, grant) == ["1", "2"]


def test_a_key_that_another_moved_meanwhile_is_no_loss(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """Also if that one has destroyed the version since."""
    key = harness.vault().key(grant)
    found = GrantKeys(grant, ("1",))
    stale = harness.stack.store("vault", Role.READER).read(f"{key_prefix(grant)}1", 1000)
    harness.keyring.rotate()
    for _ in range(2):
        assert rewrapper(harness).rewrap(found, OLD, "2") is Outcome.MOVED
    harness.keyring.destroy("1")
    harness.stack.store("vault", Role.SINK).create(f"{key_prefix(grant)}1", stale, "text/plain")
    assert rewrapper(harness).rewrap(found, OLD, "2") is Outcome.MOVED
    assert harness.vault().key(grant) == key


def test_a_newer_version_ends_the_attempt(harness: RetentionHarness, grant: GrantId) -> None:
    key = harness.vault().key(grant)
    for _ in range(2):
        harness.keyring.rotate()
    assert rewrapper(harness).rewrap(GrantKeys(grant, ("1",)), OLD, "2") is Outcome.LATER
    assert harness.vault().key(grant) == key
    assert versions(harness, grant) == ["1", "3"]


def test_a_reader_finds_a_key_that_moved_while_it_looked(
    harness: RetentionHarness, grant: GrantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had read the wrapped key when rotation moved it, and destroyed the version."""
    key = harness.vault().key(grant)
    harness.keyring.rotate()
    unwrap = harness.keyring.unwrap

    def move_before(version: str, wrapped: bytes, context: bytes) -> bytes:
        monkeypatch.setattr(harness.keyring, "unwrap", unwrap)
        rewrapper(harness).rewrap(GrantKeys(grant, ("1",)), OLD, "2")
        harness.keyring.destroy("1")
        return unwrap(version, wrapped, context)

    monkeypatch.setattr(harness.keyring, "unwrap", move_before)
    assert harness.vault().key(grant) == key

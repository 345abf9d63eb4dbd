"""The vault: one key per grant, cached for a bounded time, and none after its marker."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from erasestream.schemas.errors import (
    BucketAccessDenied,
    Erased,
    InvariantBroken,
    NotFound,
    Refused,
    SealBroken,
    Unavailable,
)
from erasestream.schemas.ids import GrantId
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.keys.key_vault import (
    CACHE_LIMIT_S,
    OCTETS,
    KeyVault,
    KeyVaultReader,
    key_prefix,
    mark_erased,
    marker_name,
)
from erasestream.sinks.keys.keyring import KEY_BYTES
from tests.sinks.retention_harness import ManualClock, RetentionHarness


def test_racing_sinks_agree_on_one_key(harness: RetentionHarness, grant: GrantId) -> None:
    """Sixteen sinks that use a new grant at once all get the same key."""
    vaults = [harness.vault() for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda vault: vault.key(grant), vaults))
    assert len(keys) == 1
    assert len(list(harness.eraser().list(key_prefix(grant)))) == 1


def test_a_key_is_stored_wrapped_for_its_grant_only(
    harness: RetentionHarness, grant: GrantId
) -> None:
    key = harness.vault().key(grant)
    store = harness.stack.store("vault", Role.READER)
    raw = store.read(f"{key_prefix(grant)}1", 10_000)
    assert key not in raw
    with pytest.raises(SealBroken):
        harness.keyring.unwrap("1", raw, b"another")


def test_a_cached_key_is_used_for_five_seconds_at_most(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """After that, the marker is noticed."""
    vault = harness.vault()
    key = vault.key(grant)
    mark_erased(harness.eraser(), grant)
    harness.clock.now += CACHE_LIMIT_S - 0.01
    assert vault.key(grant) == key
    harness.clock.now += 0.01
    with pytest.raises(Erased):
        vault.key(grant)


def test_a_grant_that_was_erased_before_its_first_use_gets_no_key(
    harness: RetentionHarness, grant: GrantId
) -> None:
    mark_erased(harness.eraser(), grant)
    with pytest.raises(Erased):
        harness.vault().key(grant)
    assert list(harness.eraser().list(key_prefix(grant))) == []


class SlowStore(GcsObjectStore):
    """The sink's vault store; every `exists` advances the clock."""

    clock: ManualClock
    takes_s: float

    def exists(self, name: str) -> bool:
        answer = super().exists(name)
        self.clock.now += self.takes_s
        return answer


def slow_vault(harness: RetentionHarness, takes_s: float) -> KeyVault:
    """Return a vault whose marker checks take that long."""
    store = harness.stack.store("vault", Role.SINK)
    store.__class__ = SlowStore
    store.clock, store.takes_s = harness.clock, takes_s
    return KeyVault(store=store, keyring=harness.keyring, clock=harness.clock)


def test_the_cache_limit_counts_from_before_the_request(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """A slow vault hides no marker for longer than five seconds."""
    harness.vault().key(grant)
    vault = slow_vault(harness, CACHE_LIMIT_S - 1)
    key = vault.key(grant)
    mark_erased(harness.eraser(), grant)
    harness.clock.now += 0.99
    assert vault.key(grant) == key
    harness.clock.now += 0.01
    with pytest.raises(Erased):
        vault.key(grant)


def test_an_answer_that_took_longer_than_the_cache_limit_is_unavailable(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """The marker may exist by now: the sink retries."""
    harness.vault().key(grant)
    with pytest.raises(Unavailable, match="too slowly"):
        slow_vault(harness, CACHE_LIMIT_S).key(grant)


class RacedStore(GcsObjectStore):
    """The sink's vault store; an eraser marks the grant right after a key is read."""

    grant: GrantId
    harness: RetentionHarness

    def read(self, name: str, max_bytes: int) -> bytes:
        raw = super().read(name, max_bytes)
        mark_erased(self.harness.eraser(), self.grant)
        return raw


def test_a_marker_created_after_reading_the_key_is_seen(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """Key first, marker second: an erasure in between is never missed."""
    harness.vault().key(grant)
    store = harness.stack.store("vault", Role.SINK)
    store.__class__ = RacedStore
    store.grant, store.harness = grant, harness
    with pytest.raises(Erased):
        KeyVault(store=store, keyring=harness.keyring, clock=harness.clock).key(grant)


@pytest.mark.parametrize("role", [Role.SINK, Role.READER])
def test_a_denied_marker_is_not_an_absent_one(
    harness: RetentionHarness, grant: GrantId, role: Role
) -> None:
    """A role that may not list gets the same answer for both: no key is used, none is created."""
    store = harness.stack.store("blind", role)
    vault = KeyVault(store=store, keyring=harness.keyring, clock=harness.clock)
    attempts = (vault.key, vault.keys, vault.assert_not_erased, vault.is_erased)
    for attempt in attempts:
        with pytest.raises(BucketAccessDenied):
            attempt(grant)
    seen = harness.stack.store("blind", Role.AUDITOR)
    assert list(seen.list(key_prefix(grant))) == []
    # Nor is a key that exists used while its marker cannot be seen.
    wrapped = harness.keyring.wrap(bytes(KEY_BYTES), grant.encode())
    name = key_prefix(grant) + wrapped.version
    harness.stack.store("blind", Role.SINK).create(name, wrapped.raw, OCTETS)
    for attempt in attempts:
        with pytest.raises(BucketAccessDenied):
            attempt(grant)


def test_the_reader_cannot_create_keys_or_markers(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """It has neither the methods nor the rights."""
    vault = KeyVaultReader(
        store=harness.stack.store("vault", Role.READER),
        keyring=harness.keyring,
        clock=harness.clock,
    )
    with pytest.raises(NotFound):
        vault.keys(grant)
    assert not hasattr(vault, "key")
    with pytest.raises(Refused):
        mark_erased(harness.stack.store("vault", Role.READER), grant)


@pytest.mark.parametrize("text", ["", "../keys", "0" * 36])
def test_only_uuids_become_names_of_keys_and_markers(text: str) -> None:
    with pytest.raises(InvariantBroken):
        key_prefix(GrantId(text))
    with pytest.raises(InvariantBroken):
        marker_name(GrantId(text))

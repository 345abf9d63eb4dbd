"""A replica that is killed at any point of its work: another finishes it, with the same outcome."""

from collections.abc import Iterator
from contextlib import closing, suppress

from erasestream.schemas.events.ledger import KeyDestroyed, KeyState
from erasestream.sinks.buckets.object_store import ObjectInfo, ObjectStore
from erasestream.sinks.keys.epoch_vault import KeyName
from erasestream.topics.catalog.purposes import purposes
from tests.pipeline.stages.keys.key_harness import CERTAIN, TIMES, KeyHarness

SINK = {"sink": purposes(())["sink"]}


class Killed(BaseException):
    """The end of a process, which no code of its handles."""


class MortalStore:
    """A vault whose user is killed right after a number of operations."""

    def __init__(self, store: ObjectStore, lives: int) -> None:
        self._store = store
        self._lives = lives

    def _spend(self) -> None:
        self._lives -= 1
        if self._lives <= 0:
            raise Killed

    def read(self, name: str, max_bytes: int) -> bytes:
        try:
            return self._store.read(name, max_bytes)
        finally:
            self._spend()

    def exists(self, name: str) -> bool:
        found = self._store.exists(name)
        self._spend()
        return found

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = [*self._store.list(prefix)]
        self._spend()
        return iter(found)

    def create(self, name: str, data: bytes, content_type: str) -> None:
        self._store.create(name, data, content_type)
        self._spend()

    def delete(self, name: str) -> None:
        self._store.delete(name)
        self._spend()


def run_until_killed(
    harness: KeyHarness, store: ObjectStore, lives: int
) -> tuple[bool, list[KeyDestroyed]]:
    """Return whether a replica was killed in its round, and its entries in the ledger."""
    replica = harness.start(table=SINK, store=MortalStore(store, lives))
    harness.replicas.remove(replica)
    with closing(replica.stage), suppress(Killed):
        replica.do_round()
        return False, replica.ledger.entries
    return True, replica.ledger.entries


def test_killed_while_creating(harness: KeyHarness) -> None:
    """Between create and read, say: the next replica gives out the pair that exists."""
    store, survivor = harness.store(), harness.start(table=SINK)
    lives, is_killed = 0, True
    while is_killed:
        lives += 1
        harness.clock.advance(hours=2)
        is_killed, _ = run_until_killed(harness, store, lives)
        names = [KeyName("sink", epoch) for epoch in TIMES.offered(harness.clock())]
        left = {
            name: store.read(f"epochs/{name}", 1000)
            for name in names
            if store.exists(f"epochs/{name}")
        }
        survivor.do_round()
        assert survivor.stage.is_ready()
        for name, raw in left.items():
            assert survivor.vault.find(name, harness.clock()).public == raw[:32]
    assert lives > 4


def test_killed_while_destroying(harness: KeyHarness) -> None:
    """Another replica finishes: no key is left, and each end is in the ledger, under one id."""
    store, survivor = harness.store(), harness.start(table=SINK)
    lives, is_killed = 0, True
    while is_killed:
        lives += 1
        survivor.do_round()
        epoch = TIMES.number(harness.clock())
        harness.clock.at = TIMES.dies(epoch) + CERTAIN
        is_killed, entries = run_until_killed(harness, store, lives)
        survivor.do_round()
        found = [e for e in (*entries, *survivor.ledger.entries) if e.epoch == epoch]
        assert {e.state for e in found} == {*KeyState}
        assert len({e.id for e in found}) == 2
        assert epoch not in harness.masters().epochs()
        assert not [each.name for each in store.list("") if each.name.endswith(f"/{epoch}")]
    assert lives > 8

"""A replica that is killed at any point of its work: another finishes it, with the same outcome."""

from contextlib import closing, suppress

from erasestream.schemas.events.ledger import KeyDestroyed, KeyState
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.keys.epoch_vault import KeyName
from erasestream.topics.catalog.purposes import purposes
from tests.pipeline.stages.keys.key_harness import CERTAIN, TIMES, KeyHarness
from tests.sinks.mortal_store import Killed, Lives, MortalStore

SINK = {"sink": purposes(())["sink"]}


def run_until_killed(
    harness: KeyHarness, store: ObjectStore, lives: int
) -> tuple[bool, list[KeyDestroyed]]:
    """Return whether a replica was killed in its round, and its entries in the ledger."""
    left = Lives()
    replica = harness.start(table=SINK, store=MortalStore(store, left))
    harness.replicas.remove(replica)
    left.count = lives
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

"""The keys of an epoch over time: asked for before, within and after it, and after their death."""

import hashlib
import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from erasestream.schemas.errors import Code, Refused, SealBroken, Unavailable
from erasestream.schemas.events.ledger import KeyState
from erasestream.schemas.ids import Lane
from erasestream.sinks.keys.epoch_masters import LocalEpochMasters
from erasestream.sinks.keys.epoch_vault import EpochVault, KeyName
from erasestream.topics.catalog.purposes import purposes
from erasestream.topics.keys.answers import NoKey
from tests.pipeline.stages.keys.key_harness import (
    CERTAIN,
    LANES,
    TIMES,
    KeyHarness,
    SettableClock,
)

WAIT_S = 20.0
PRODUCER = "shop.producer"


def test_dead_future_and_unknown_keys_are_answers(harness: KeyHarness) -> None:
    harness.start().do_round()
    client = harness.client("sink")
    epoch = TIMES.number(harness.clock())

    def ask(number: int) -> bytes | NoKey:
        return client.opening_key("sink", number, timeout_s=WAIT_S)

    assert ask(epoch - 24) is NoKey.EXPIRED
    assert ask(0) is NoKey.EXPIRED
    assert ask(epoch + 1) is NoKey.FUTURE
    assert ask(10**18 - 1) is NoKey.FUTURE
    assert ask(epoch - 1) is NoKey.UNKNOWN
    with pytest.raises(Refused, match="no purpose"):
        client.opening_key("results.absent", epoch, timeout_s=WAIT_S)
    with pytest.raises(Refused, match="no purpose"):
        client.sealing_key("results.absent", timeout_s=WAIT_S)


def test_a_public_key_is_given_out_until_its_pair_dies(harness: KeyHarness) -> None:
    """A cut-out is sealed for the epoch of its upload, hours after that has ended."""
    replica = harness.start()
    replica.do_round()
    epoch = TIMES.number(harness.clock())
    public = replica.vault.find(KeyName("results.shop", epoch), harness.clock()).public

    def ask(number: int) -> bytes | NoKey:
        return worker.public_key("results.shop", number, timeout_s=WAIT_S)

    harness.clock.at = TIMES.dies(epoch) - timedelta(seconds=1)
    worker = harness.client("inference", harness.start())
    now = TIMES.number(harness.clock())
    assert ask(epoch) == public
    assert ask(epoch - 1) is NoKey.EXPIRED
    assert ask(now - 1) is NoKey.UNKNOWN
    assert [isinstance(ask(now + ahead), bytes) for ahead in (0, 1)] == [True, True]
    assert ask(now + 2) is NoKey.FUTURE
    assert ask(10**18 - 1) is NoKey.FUTURE
    harness.clock.advance(seconds=1)
    assert ask(epoch) is NoKey.EXPIRED


def test_a_dead_key_is_asked_for_once(harness: KeyHarness) -> None:
    """A backlog of records under dead keys is no load on the service."""
    harness.start().do_round()
    client = harness.client("sink")
    dead = TIMES.number(harness.clock()) - 24
    assert client.opening_key("sink", dead, timeout_s=WAIT_S) is NoKey.EXPIRED
    harness.replicas.pop().stage.close()
    assert client.opening_key("sink", dead, timeout_s=0) is NoKey.EXPIRED


def test_a_lane_added_within_an_epoch_has_its_keys(harness: KeyHarness) -> None:
    """As soon as one replica is started with the new settings; the others are asked in vain."""
    harness.start().do_round()
    epoch = TIMES.number(harness.clock())
    replica = harness.start(table=purposes((*LANES, Lane("new"))))
    worker = harness.client("inference", replica)
    assert isinstance(worker.public_key("results.new", epoch, timeout_s=WAIT_S), bytes)
    for _ in range(4):  # whichever of the two it asks first
        worker = harness.client("inference")
        assert isinstance(worker.public_key("results.new", epoch, timeout_s=WAIT_S), bytes)
        with pytest.raises(Refused, match="no purpose"):
            worker.public_key("results.none", epoch, timeout_s=WAIT_S)


def test_a_key_is_unknown_only_if_every_replica_has_answered_so(harness: KeyHarness) -> None:
    """A worker remembers that: neither an outdated replica nor the only one left may decide it."""
    old, other = harness.start(), harness.start(table=purposes((*LANES, Lane("new"))))
    for replica in (old, other):
        replica.do_round()
    epoch = TIMES.number(harness.clock())
    worker = harness.client("inference")
    assert worker.public_key("sink", epoch - 1, timeout_s=WAIT_S) is NoKey.UNKNOWN
    other.stage.close()
    harness.replicas.remove(other)
    with pytest.raises(Unavailable):
        worker.public_key("sink", epoch - 1, timeout_s=0)
    with pytest.raises(Refused, match="no purpose"):
        worker.public_key("results.new", epoch, timeout_s=0)


def test_a_cached_key_is_dropped_when_it_dies(harness: KeyHarness) -> None:
    """By the client's own clock, also while the service is unavailable."""
    replica = harness.start()
    replica.do_round()
    client = harness.client("sink")
    epoch = TIMES.number(harness.clock())
    assert isinstance(client.opening_key("sink", epoch, timeout_s=WAIT_S), bytes)
    replica.stage.close()
    harness.replicas.clear()
    harness.clock.at = TIMES.dies(epoch) - timedelta(seconds=1)
    assert isinstance(client.opening_key("sink", epoch, timeout_s=0), bytes)
    harness.clock.advance(seconds=1)
    client.drop_dead()
    assert not client._of_epochs
    with pytest.raises(Unavailable) as caught:
        client.opening_key("sink", epoch, timeout_s=0)
    assert caught.value.code is Code.KEYS_UNAVAILABLE


def test_a_producer_goes_on_for_an_epoch_without_the_service(harness: KeyHarness) -> None:
    """With the next epoch's key; then it is refused until the service is back."""
    harness.start().do_round()
    client = harness.client(PRODUCER)
    epoch = TIMES.number(harness.clock())
    first = client.sealing_key("inference.shop", timeout_s=WAIT_S)
    harness.replicas.pop().stage.close()
    harness.clock.advance(hours=1)
    second = client.sealing_key("inference.shop", timeout_s=0)
    assert [first.epoch, second.epoch] == [epoch, epoch + 1]
    assert first.public != second.public
    harness.clock.advance(hours=1)
    with pytest.raises(Unavailable):
        client.sealing_key("inference.shop", timeout_s=0)
    client = harness.client(PRODUCER, harness.start())
    assert client.sealing_key("inference.shop", timeout_s=WAIT_S).epoch == epoch + 2


class HeldMasters(LocalEpochMasters):
    """Master keys that cannot be destroyed at the moment."""

    def destroy(self, epoch: int) -> None:
        raise Unavailable(f"master key {epoch}")


def test_death_of_a_key_from_vault_to_ledger(harness: KeyHarness) -> None:
    """Deleted and reported once; unrecoverable once the master is gone, and not before."""
    masters = harness.masters()
    first, second = harness.start(masters=HeldMasters(harness.masters_folder)), harness.start()
    first.do_round()
    epoch = TIMES.number(harness.clock())
    name = KeyName("sink", epoch)
    public = first.vault.find(name, harness.clock()).public
    digest = hashlib.sha256(public).hexdigest()

    def entries(state: KeyState) -> list[str]:
        found = [*first.ledger.entries, *second.ledger.entries]
        its = [e for e in found if (e.purpose, e.epoch, e.state) == (*name, state)]
        return [entry.public_key_sha256 for entry in its]

    harness.clock.at = TIMES.dies(epoch)
    assert harness.client("sink").opening_key(*name, timeout_s=WAIT_S) is NoKey.EXPIRED
    first.do_round()
    assert not harness.store().exists(f"epochs/{name}")
    assert epoch in masters.epochs()
    harness.clock.at += CERTAIN
    first.do_round()
    assert entries(KeyState.UNREACHABLE) == [digest]
    assert entries(KeyState.UNRECOVERABLE) == []
    second.do_round()
    first.do_round()
    assert epoch not in masters.epochs()
    assert entries(KeyState.UNRECOVERABLE) == [digest]
    assert entries(KeyState.UNREACHABLE) == [digest]
    names = {found.name for found in harness.store().list("")}
    assert not [found for found in names if found.startswith(f"destroyed/{name}")]


def test_a_death_is_reported_once_it_is_true_by_every_clock(harness: KeyHarness) -> None:
    """A replica whose clock is behind gives the key out, from its memory, after it was deleted."""
    late = harness.start(clock=SettableClock(harness.clock()))
    replica = harness.start()
    for each in (late, replica):
        each.do_round()
    epoch = TIMES.number(harness.clock())
    harness.clock.at = TIMES.dies(epoch)
    late.clock.at = harness.clock() - timedelta(seconds=TIMES.clock_error_s)

    def ask() -> bytes | NoKey:
        client = harness.client("sink", late, clock=late.clock)
        return client.opening_key("sink", epoch, timeout_s=WAIT_S)

    replica.do_round()
    assert not harness.store().exists(f"epochs/sink/{epoch}")
    assert isinstance(ask(), bytes)
    assert not replica.ledger.entries
    for each in (late, replica):
        each.clock.at += CERTAIN
        each.do_round()
    assert ask() is NoKey.EXPIRED
    assert {each.state for each in replica.ledger.entries} == {*KeyState}


def test_after_a_change_of_their_length_no_key_of_before_is_left(harness: KeyHarness) -> None:
    """Epochs are counted in it: those of half an hour would begin decades from now."""
    before = replace(TIMES, length_s=TIMES.length_s / 2)
    masters, epoch = harness.masters(), before.number(harness.clock())
    vault = EpochVault(store=harness.store(), masters=masters, times=before)
    vault.find_or_create(KeyName("sink", epoch), harness.clock())
    replica = harness.start()
    replica.do_round()
    assert not harness.store().exists(f"epochs/sink/{epoch}")
    assert epoch not in masters.epochs()
    its = [entry.state for entry in replica.ledger.entries if entry.epoch == epoch]
    assert its == [KeyState.UNREACHABLE, KeyState.UNRECOVERABLE]


def test_old_copies_of_the_vault_open_nothing_with_what_is_left_of_the_masters(
    harness: KeyHarness, tmp_path: Path
) -> None:
    """At the moment of death, whatever the time of day; with the masters of before they open."""
    replica = harness.start()
    replica.do_round()
    epoch = TIMES.number(harness.clock())
    names = [KeyName(purpose, epoch) for purpose in purposes(LANES)]
    vault = {name: harness.store().read(f"epochs/{name}", 1000) for name in names}
    shutil.copytree(harness.masters_folder, tmp_path / "before")
    alive = harness.clock()
    harness.clock.at = TIMES.dies(epoch)
    replica.do_round()
    for name, raw in vault.items():
        harness.store().create(f"epochs/{name}", raw, "application/octet-stream")

    def opened(masters: Path) -> list[KeyName]:
        thief = EpochVault(store=harness.store(), masters=LocalEpochMasters(masters), times=TIMES)
        found = []
        for name in names:
            with suppress(SealBroken):
                thief.find(name, alive)
                found.append(name)
        return found

    assert opened(tmp_path / "before") == names
    assert opened(harness.masters_folder) == []

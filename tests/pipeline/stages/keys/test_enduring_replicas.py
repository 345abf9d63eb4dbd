"""Damage to one key, one file, one clock or one disk concerns that alone, and is loud."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from erasestream.schemas.errors import BucketAccessDenied, NotFound, Unavailable
from erasestream.schemas.events.ledger import KeyState
from erasestream.sinks.buckets.bucket_clock import BucketClock
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.keys.epoch_masters import LocalEpochMasters
from erasestream.sinks.keys.epoch_vault import KeyName
from tests.pipeline.stages.keys.key_harness import CERTAIN, TIMES, KeyHarness, SettableClock

WAIT_S = 20.0


def critical(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the reasons of what an operator has to repair."""
    lines = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    return [line.__dict__["reason"] for line in lines]


BROKEN: dict[str, Callable[[Path], object]] = {
    "exposed": lambda path: path.chmod(0o644),
    "too short": lambda path: path.write_bytes(bytes(31)),
    "too long": lambda path: path.write_bytes(bytes(33)),
}


@pytest.mark.parametrize("break_file", BROKEN.values(), ids=BROKEN)
def test_a_broken_master_key_concerns_its_epoch_only(
    harness: KeyHarness, break_file: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Replicas go on with the other epochs; they name the file, and can destroy it."""
    harness.start().do_round()
    epoch = TIMES.number(harness.clock())
    break_file(harness.masters_folder / f"{epoch}.key")
    fresh = harness.start()
    fresh.do_round()
    assert fresh.stage.is_ready()
    assert any(f"{epoch}.key" in reason for reason in critical(caplog))
    sink = harness.client("sink", fresh)
    with pytest.raises(Unavailable):
        sink.opening_key("sink", epoch, timeout_s=0)
    worker = harness.client("inference", fresh)
    with pytest.raises(Unavailable):  # the next one's must not be used yet
        worker.sealing_key("sink", timeout_s=0)
    harness.clock.advance(hours=1)
    fresh.do_round()
    assert isinstance(sink.opening_key("sink", epoch + 1, timeout_s=WAIT_S), bytes)
    harness.clock.at = TIMES.dies(epoch)
    fresh.do_round()
    assert epoch not in harness.masters().epochs()


def test_a_broken_key_of_the_next_epoch_does_not_keep_this_ones(harness: KeyHarness) -> None:
    """Those who begin to seal in this hour get its key; they ask again for the next."""
    harness.start().do_round()
    epoch = TIMES.number(harness.clock())
    (harness.masters_folder / f"{epoch + 1}.key").chmod(0o644)
    fresh = harness.start()
    worker = harness.client("inference", fresh)
    assert [k.epoch for k in worker.fetch_sealing_keys("sink", timeout_s=WAIT_S)] == [epoch]
    (harness.masters_folder / f"{epoch + 1}.key").chmod(0o600)
    both = worker.fetch_sealing_keys("sink", timeout_s=WAIT_S)
    assert [key.epoch for key in both] == [epoch, epoch + 1]


def test_a_broken_note_concerns_its_key_only(
    harness: KeyHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """The other deaths are reported, and the replica goes on."""
    replica = harness.start()
    epoch = TIMES.number(harness.clock())
    replica.do_round()
    store = harness.store()
    for number, size in enumerate((0, 31, 33)):
        store.create(f"destroyed/sink/{epoch - number - 1}", bytes(size), "text/plain")
    harness.clock.at = TIMES.dies(epoch) + CERTAIN
    replica.do_round()
    reported = [e.state for e in replica.ledger.entries if (e.purpose, e.epoch) == ("sink", epoch)]
    assert reported == [KeyState.UNREACHABLE, KeyState.UNRECOVERABLE]
    assert any(f"sink/{epoch - 1}" in reason for reason in critical(caplog))
    assert replica.stage.is_ready()


def test_a_replica_with_a_wrong_clock_keeps_no_key_in_memory(harness: KeyHarness) -> None:
    """By a clock that is behind, the keys would not die in time."""
    right = SettableClock(harness.clock())
    replica = harness.start(clock=SettableClock(right()), witness=right)
    replica.do_round()
    name = KeyName("sink", TIMES.number(right()))
    assert replica.vault.find(name, right())
    replica.clock.advance(minutes=-10)
    replica.do_round()
    harness.store().delete(f"epochs/{name}")
    with pytest.raises(NotFound):
        replica.vault.find(name, right())


class WithoutCreating(GcsObjectStore):
    """A vault in which this identity may create no key any more."""

    def create(self, name: str, data: bytes, content_type: str) -> datetime | None:
        if name.startswith("epochs/"):
            raise BucketAccessDenied(f"create {name}")
        return super().create(name, data, content_type)


class OneHeldMaster(LocalEpochMasters):
    """Master keys of which one cannot be deleted."""

    held = 0

    def destroy(self, epoch: int) -> None:
        if epoch == self.held:
            raise Unavailable(f"master key {epoch}")
        super().destroy(epoch)


def test_keys_are_destroyed_whatever_becomes_of_the_others(harness: KeyHarness) -> None:
    """Of two dead epochs the first cannot be destroyed; and no new key can be created."""
    harness.start().do_round()
    first = TIMES.number(harness.clock())
    store, masters = harness.store(), OneHeldMaster(harness.masters_folder)
    store.__class__, masters.held = WithoutCreating, first
    harness.clock.at = TIMES.dies(first + 1)
    replica = harness.start(store=store, masters=masters)
    replica.do_round()
    assert {first, first + 1} & {*harness.masters().epochs()} == {first}
    names = [found.name for found in store.list("epochs/")]
    assert not [name for name in names if name.endswith((f"/{first}", f"/{first + 1}"))]
    assert not replica.stage.is_ready()


def test_a_replica_with_a_wrong_clock_destroys_nothing_and_gives_nothing_out(
    harness: KeyHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """The vault's clock vouches for its own; the others go on, and so does it once it is right."""
    right = SettableClock(datetime.now(UTC))
    vault_clock = BucketClock(harness.store(), "epochs/clock-")
    other = harness.start(clock=right)
    other.do_round()
    epoch = TIMES.number(right())
    replica = harness.start(clock=SettableClock(right()), witness=vault_clock)
    replica.do_round()
    assert replica.stage.is_ready()

    def ask() -> object:
        return harness.client("sink", replica, clock=right).opening_key("sink", epoch, timeout_s=0)

    assert isinstance(ask(), bytes)
    for hours in (23, -23):
        replica.clock.at = right() + timedelta(hours=hours)
        replica.do_round()
        assert not replica.stage.is_ready()
        assert critical(caplog).pop().startswith(f"this clock is {hours:+}"[:15])
        with pytest.raises(Unavailable):
            ask()
    assert isinstance(
        harness.client("sink", other, clock=right).opening_key("sink", epoch, timeout_s=0), bytes
    )
    assert {epoch, epoch + 1} == {*harness.masters().epochs()}
    replica.clock.at = right()
    replica.do_round()
    assert isinstance(ask(), bytes)
    assert not list(harness.store().list("epochs/clock-"))


def test_without_the_vault_its_last_time_is_continued(harness: KeyHarness) -> None:
    """By the monotonic clock; before the vault has answered once, nothing is believed."""
    vault = [True]

    def witness() -> datetime:
        if not vault[0]:
            raise Unavailable("on purpose")
        return real()

    real = SettableClock(harness.clock())
    replica = harness.start(clock=SettableClock(harness.clock()), witness=witness)
    replica.do_round()
    vault[0] = False
    epoch = TIMES.number(real())
    for clock in (real, replica.clock):
        clock.advance(seconds=1000)  # as a round adds to the monotonic one
    replica.do_round()
    assert replica.stage.is_ready()
    replica.clock.at = TIMES.dies(epoch)
    replica.do_round()
    assert not replica.stage.is_ready()
    assert epoch in harness.masters().epochs()
    fresh = harness.start(witness=witness)
    fresh.do_round()
    assert not fresh.stage.is_ready()


def test_an_empty_folder_is_no_proof_that_masters_are_gone(
    harness: KeyHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """While its disk is not mounted nothing is called unrecoverable, and nothing is created."""
    replica = harness.start()
    replica.do_round()
    epoch = TIMES.number(harness.clock())
    folder, disk = harness.masters_folder, harness.masters_folder.with_name("disk")
    folder.rename(disk)
    folder.mkdir(mode=0o700)
    harness.clock.at = TIMES.dies(epoch) + CERTAIN
    for each in (replica, harness.start()):
        each.do_round()
        assert not [e for e in each.ledger.entries if e.state is KeyState.UNRECOVERABLE]
    assert [e.epoch for e in replica.ledger.entries if e.purpose == "sink"] == [epoch]
    assert any("mounted" in reason for reason in critical(caplog))
    assert list(folder.iterdir()) == []
    folder.rmdir()
    disk.rename(folder)
    replica.do_round()
    states = [e.state for e in replica.ledger.entries if (e.purpose, e.epoch) == ("sink", epoch)]
    assert states == [KeyState.UNREACHABLE, KeyState.UNRECOVERABLE]
    assert replica.stage.is_ready()

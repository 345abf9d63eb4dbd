"""Entries in the ledger about dead keys: unreachable, then unrecoverable, each once it is true."""

import hashlib
from datetime import timedelta
from typing import Protocol

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import SealBroken
from erasestream.schemas.events.ledger import KeyDestroyed, KeyState
from erasestream.schemas.ids import derived_uuid
from erasestream.sinks.keys.epoch_masters import EpochMasters
from erasestream.sinks.keys.epoch_vault import DestroyedPair, EpochVault
from erasestream.topics.catalog.epochs import EpochTimes


class Ledger(Protocol):
    """Where the deaths of keys are written."""

    def open(self) -> object:
        """Check that entries can be written.  Raises `Unavailable`."""

    def record(self, entry: KeyDestroyed, /) -> None:
        """Write an entry.  Raises `Unavailable`; it may then have been written or not."""


class DeathReports:
    """Writes the entries that are due.  Replicas do so at once: an entry's id tells."""

    def __init__(
        self,
        *,
        vault: EpochVault,
        masters: EpochMasters,
        times: EpochTimes,
        ledger: Ledger,
        until_certain: timedelta,
        now: WallClock,
    ) -> None:
        """`until_certain`: from a key's death until no replica has it in memory."""
        self._vault = vault
        self._masters = masters
        self._times = times
        self._ledger = ledger
        self._until_certain = until_certain
        self._now = now

    def write(self) -> None:
        """Write what is due.

        Raises `Unavailable`, `Refused` without the masters' folder, and `SealBroken`, after all
        others, if a note does not say which key was destroyed.
        """
        self._ledger.open()
        certain = self._now() - self._until_certain
        found = [p for p in self._vault.destroyed() if self._times.is_due(p.name.epoch, certain)]
        dead = [pair for pair in found if pair.public_key_sha256]
        for pair in dead:
            if not pair.is_reported:
                self._ledger.record(self._entry(pair, KeyState.UNREACHABLE))
                self._vault.mark_reported(pair.name)
        with_master = set(self._masters.epochs())
        for pair in dead:
            if pair.name.epoch not in with_master:
                self._ledger.record(self._entry(pair, KeyState.UNRECOVERABLE))
                self._vault.forget(pair.name)
        if broken := [str(pair.name) for pair in found if not pair.public_key_sha256]:
            raise SealBroken(f"notes of destroyed keys: {', '.join(broken)}")

    def _entry(self, pair: DestroyedPair, state: KeyState) -> KeyDestroyed:
        digest = hashlib.sha256(f"key\0{pair.name}\0{pair.public_key_sha256}\0{state}".encode())
        return KeyDestroyed(
            id=derived_uuid(digest.digest()),
            time=self._now(),
            purpose=pair.name.purpose,
            epoch=pair.name.epoch,
            public_key_sha256=pair.public_key_sha256,
            state=state,
        )

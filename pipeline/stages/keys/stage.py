"""The key service as a stage: creates the keys of epochs in time, and destroys the dead ones.

Requests are answered in the server's threads; `run_once` does the upkeep.  In every round, for
each purpose by itself:

* create the pairs of this epoch and the next;
* destroy the dead pairs, and write to the ledger that they are unreachable;
* destroy the master keys whose epochs are all dead, and write to the ledger that the pairs they
  wrapped are unrecoverable.

Replicas do the same work, without knowing each other; every step is idempotent.  A step that
fails is tried again in the next round, and does not keep the others from their steps.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.keys.https_server import KeyServer
from erasestream.schemas.clocks import Clock, Deadline, WallClock
from erasestream.schemas.errors import SealBroken, Unavailable
from erasestream.schemas.events.ledger import KeyDestroyed, KeyState
from erasestream.schemas.ids import derived_uuid
from erasestream.sinks.keys.epoch_masters import EpochMasters
from erasestream.sinks.keys.epoch_vault import DestroyedPair, EpochVault, KeyName
from erasestream.topics.catalog.epochs import EpochTimes

log = logging.getLogger(__name__)

MAX_INTERVAL_S = 60.0


class KeyServiceStage:
    """One replica."""

    def __init__(
        self,
        *,
        server: KeyServer,
        vault: EpochVault,
        masters: EpochMasters,
        times: EpochTimes,
        purposes: Iterable[str],
        record: Callable[[KeyDestroyed], object],
        renew: Callable[[], None],
        stopping: threading.Event,
        now: WallClock,
        clock: Clock = time.monotonic,
    ) -> None:
        """`record` writes to the ledger; `renew` uses a renewed certificate, if there is one."""
        self._server = server
        self._vault = vault
        self._masters = masters
        self._times = times
        self._purposes = tuple(purposes)
        self._record = record
        self._renew = renew
        self._stopping = stopping
        self._now = now
        self._clock = clock
        # Often enough that a dead key is gone well within its time to be destroyed.
        self._interval_s = min(MAX_INTERVAL_S, times.destruction_s / 4)
        self._due = Deadline(0, clock)
        self._outage = OutageLog()
        self._is_ready = False

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.port

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Do a round if it is due, else wait up to the timeout."""
        self._renew()
        if not self._due.has_passed:
            self._stopping.wait(self._due.slice_s(timeout_s))
            return
        self._due = Deadline(self._interval_s, self._clock)
        created = [self._attempt(partial(self._create, purpose)) for purpose in self._purposes]
        self._is_ready = all(created)
        self._attempt(self._destroy_pairs)
        self._attempt(self._destroy_masters)
        self._attempt(self._report)
        self._outage.end_round()

    def is_ready(self) -> bool:
        """Return whether the last round found or created the keys of this epoch and the next."""
        return self._is_ready

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def _attempt(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except Unavailable as error:
            self._outage.report(error)
            return False
        except SealBroken:
            log.critical("key_unreadable")
            return False
        return True

    def _create(self, purpose: str) -> None:
        now = self._now()
        for epoch in self._times.offered(now):
            self._vault.find_or_create(KeyName(purpose, epoch), now)

    def _destroy_pairs(self) -> None:
        for name in self._vault.dead(self._now()):
            self._attempt(partial(self._vault.destroy, name))

    def _destroy_masters(self) -> None:
        for master in self._masters.numbers():
            if self._times.is_master_dead(master, self._now()):
                self._masters.destroy(master)

    def _report(self) -> None:
        masters = set(self._masters.numbers())
        for pair in self._vault.destroyed():
            if not pair.is_reported:
                self._record(self._entry(pair, KeyState.UNREACHABLE))
                self._vault.mark_reported(pair.name)
            if self._times.master(pair.name.epoch) not in masters:
                self._record(self._entry(pair, KeyState.UNRECOVERABLE))
                self._vault.forget(pair.name)

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

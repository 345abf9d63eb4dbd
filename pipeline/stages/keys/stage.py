"""The key service as a stage: creates the keys of epochs in time, and destroys the dead ones.

Requests are answered in the server's threads; `run_once` does the upkeep.  In every round:

* check its own clock and folder (`self_check.py`): with a wrong clock it does nothing more;
* destroy the dead pairs, and the master keys of dead epochs, each by itself;
* create the pairs of this epoch and the next, each by itself;
* write to the ledger which pairs are unreachable, and which unrecoverable: their master is gone.
  Not before every clock has passed their death: until then another replica may give them out.

It is ready once it has any of these, whatever the brokers do: without its ledger it gives out keys,
and a pair that cannot be read concerns its own purpose and epoch only.

Replicas do the same work, without knowing each other; every step is idempotent.  A step that
fails is tried again in the next round, and does not keep the others from their steps.  One that an
operator has to repair, such as a master key that others can read, is logged as critical each time.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.keys.death_reports import DeathReports, Ledger
from erasestream.pipeline.stages.keys.https_server import KeyServer
from erasestream.pipeline.stages.keys.self_check import SelfCheck
from erasestream.schemas.clocks import Clock, Deadline, WallClock
from erasestream.schemas.errors import Refused, SealBroken, Unavailable
from erasestream.sinks.keys.epoch_masters import EpochMasters
from erasestream.sinks.keys.epoch_vault import EpochVault, KeyName
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
        ledger: Ledger,
        check: SelfCheck,
        renew: Callable[[], None],
        stopping: threading.Event,
        now: WallClock,
        clock: Clock = time.monotonic,
    ) -> None:
        """`renew` uses a renewed certificate, if there is one."""
        self._server = server
        self._vault = vault
        self._masters = masters
        self._times = times
        self._purposes = tuple(purposes)
        self._check = check
        self._renew = renew
        self._stopping = stopping
        self._now = now
        self._clock = clock
        # Often enough that a dead key is gone well within its time to be destroyed.
        self._interval_s = min(MAX_INTERVAL_S, times.destruction_s / 4)
        # By then every replica has passed the death, and dropped the key from its memory.
        until_certain = timedelta(seconds=times.clock_error_s + self._interval_s)
        self._reports = DeathReports(
            vault=vault,
            masters=masters,
            times=times,
            ledger=ledger,
            until_certain=until_certain,
            now=now,
        )
        self._due = Deadline(0, clock)
        self._outage = OutageLog()
        self._is_ready = False
        self._has_to_report = False

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.port

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Do half a round if one is due, else wait up to the timeout."""
        self._renew()
        if self._has_to_report:
            # Apart, so that the stage is ready, and may end, before brokers have answered.
            self._has_to_report = False
            self._attempt(self._reports.write)
            self._outage.end_round()
            return
        if not self._due.has_passed:
            self._stopping.wait(self._due.slice_s(timeout_s))
            return
        self._due = Deadline(self._interval_s, self._clock)
        self._is_ready = False
        if self._attempt(self._check.check_clock):
            self._do_upkeep()
            self._has_to_report = True
        else:
            self._vault.drop_keys()  # by a wrong clock they would die too late

    def is_ready(self) -> bool:
        """Return whether the last round found or created any key of this epoch or the next."""
        return self._is_ready

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def _do_upkeep(self) -> None:
        self._attempt(self._check.check_masters)
        self._attempt(self._destroy_pairs)
        self._attempt(self._destroy_masters)
        if self._check.is_passed():
            self._is_ready = self._create_pairs()
            self._attempt(self._check_masters)

    def _attempt(self, step: Callable[[], object]) -> bool:
        try:
            step()
        except Unavailable as error:
            self._outage.report(error)
            return False
        except (SealBroken, Refused) as error:
            log.critical("key_unusable", extra={"code": error.code, "reason": error.detail})
            return False
        return True

    def _create_pairs(self) -> bool:
        now = self._now()
        names = [KeyName(p, epoch) for epoch in self._times.offered(now) for p in self._purposes]
        created = [self._attempt(partial(self._vault.find_or_create, name, now)) for name in names]
        return any(created)

    def _destroy_pairs(self) -> None:
        for name in self._vault.due(self._now()):
            self._attempt(partial(self._vault.destroy, name))

    def _destroy_masters(self) -> None:
        for epoch in self._masters.epochs():
            if self._times.is_due(epoch, self._now()):
                self._attempt(partial(self._masters.destroy, epoch))

    def _check_masters(self) -> None:
        for epoch in self._masters.epochs():
            self._attempt(partial(self._masters.check, epoch))

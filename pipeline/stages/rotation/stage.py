"""Rotate the grants' master key, so that erased keys become worthless in every copy of the vault.

In every round, as the keyring reports its versions:

1. If the newest is older than the interval, add one (`version_schedule.py`).
2. Wait until every sink and reader knows the newest version, and all that began to create a key
   under an older one has ended.  This begins again in each process.
3. Move the keys of living grants to the newest version, a few at a time, and look again, until a
   look at all keys finds none under an older one.  No image is touched.
4. Destroy each older version of which such a look found no key.
5. Report those that are seen destroyed (`destruction_report.py`).

Nothing is remembered but in keyring and vault, so that the stage may be killed at any point, and
several may run: the next one finds what is left.  A key that does not unwrap, or whose version a
person disabled, keeps that version from being destroyed, no other version, and no other key from
being moved.
"""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.rotation.destruction_report import DestructionReport
from erasestream.pipeline.stages.rotation.rewrap_pass import UNREADABLE, RewrapPass
from erasestream.pipeline.stages.rotation.version_schedule import VersionSchedule
from erasestream.schemas.clocks import Clock, Deadline, WallClock
from erasestream.schemas.errors import Code, Unavailable
from erasestream.sinks.keys.key_rewrap import KeyRewrapper, Outcome
from erasestream.sinks.keys.keyring import Keyring, MasterVersion, VersionState

log: logging.Logger = logging.getLogger(__name__)

ROUND_S = 60.0
RETRY_S = 5.0
MAX_PARALLEL = 16


class RotationStage:
    """Rotates, rewraps, destroys and reports."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        rewrapper: KeyRewrapper,
        report: DestructionReport,
        interval: timedelta,
        settle_s: float,
        stopping: threading.Event,
        now: WallClock,
        clock: Clock = time.monotonic,
    ) -> None:
        """`settle_s`: time after which no sink creates a key under an older version."""
        self._keyring = keyring
        self._rewrapper = rewrapper
        self._destruction_report = report
        self._schedule = VersionSchedule(interval=interval, settle_s=settle_s, now=now, clock=clock)
        self._stopping = stopping
        self._clock = clock
        self._outage = OutageLog()
        self._pool = ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix="rotate")
        self._due = Deadline(0, clock)
        self._pass: RewrapPass | None = None
        self._old: frozenset[str] = frozenset()
        self._is_ready = False

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Do a round if one is due, or a turn of its pass; else wait up to the timeout."""
        if not self._due.has_passed:
            self._stopping.wait(self._due.slice_s(timeout_s))
            return
        try:
            if self._pass:
                self._go_on(self._pass)
            else:
                self._begin()
        except Unavailable as error:
            self._pass = None
            self._outage.report(error)
        if self._outage.end_round():
            self._due = Deadline(RETRY_S, self._clock)

    def is_ready(self) -> bool:
        """Return whether keyring and vault have answered."""
        return self._is_ready

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        history = self._keyring.history()
        enabled = [each.name for each in history if each.state is VersionState.ENABLED]
        if not enabled:
            raise Unavailable("no version of the master key is enabled", Code.KEYRING_UNAVAILABLE)
        newest = enabled[-1]
        self._due = Deadline(ROUND_S, self._clock)
        if self._schedule.needs_version(history, newest):
            self._keyring.rotate()
            self._schedule.added()
            log.info("master_rotated")
            self._due = Deadline(0, self._clock)
            return
        self._schedule.follow(newest)
        self._old = frozenset(_older(history, newest))
        if self._old and self._schedule.settled.has_passed:
            self._pass = RewrapPass(
                found=self._rewrapper.outdated(self._old),
                rewrap=partial(self._rewrapper.rewrap, old=self._old, newest=newest),
                pool=self._pool,
                report=self._outage.report,
            )
            self._due = Deadline(0, self._clock)
        elif self._old:
            self._due = Deadline(self._schedule.settled.slice_s(ROUND_S), self._clock)
        self._is_ready = True
        self._report(history)

    def _go_on(self, current: RewrapPass) -> None:
        """Give some grants their turns; at the end of the pass, decide what follows."""
        if current.run_once():
            return
        self._pass, counts = None, current.counts
        if moved := counts[Outcome.MOVED]:
            log.info("keys_rewrapped", extra={"count": moved})
        if counts[Outcome.CONFLICT]:
            self._schedule.note_conflict()
        if disabled := counts[Outcome.DISABLED]:
            log.error("master_disabled", extra={"count": disabled})
        unneeded = self._old - current.needed
        for version in sorted(unneeded):
            self._keyring.destroy(version)
        if unneeded:
            log.info("masters_destroyed", extra={"count": len(unneeded)})
        # At once, unless only a person can help.
        again_s = ROUND_S if counts[UNREADABLE] or disabled else 0
        self._due = Deadline(again_s, self._clock)

    def _report(self, history: Sequence[MasterVersion]) -> None:
        """Report what was destroyed; brokers that are unavailable delay nothing else."""
        try:
            reported = self._destruction_report.report(history)
        except Unavailable as error:
            self._outage.report(error)
            return
        for version in reported:
            log.info("master_seen_destroyed", extra={"reason": version})


def _older(history: Sequence[MasterVersion], newest: str) -> list[str]:
    """Return the older versions whose destruction was not asked for yet."""
    asked = {VersionState.SCHEDULED, VersionState.DESTROYED}
    names = [each.name for each in history]
    return [each.name for each in history[: names.index(newest)] if each.state not in asked]

"""Two sinks, two erasers and two writers of receipts, killed all the time while owners revoke.

An account begins with every few kills of a sink, so that pictures are under way at all of them; the
bucket is slow.  A storm goes on until all owners are done and each process was killed often enough,
and then until all is erased and has a receipt.  Both writers of receipts are killed meanwhile
whenever there is a gap between two steps (`erasure_gaps.py`).
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime
from typing import NamedTuple

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import Settings, load
from erasestream.schemas.clocks import Deadline
from erasestream.topics.catalog.roles import SINK
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.group_offsets import GroupOffsets
from tests.bench.running_pipeline import SHOP
from tests.faults.bucket_delays import BucketDelays
from tests.faults.erasure_collector import collect
from tests.faults.erasure_evidence import ErasureEvidence, SinkKill
from tests.faults.erasure_gaps import Gaps
from tests.faults.erasure_observer import ErasureObserver
from tests.faults.erasure_pictures import persist
from tests.faults.erasure_records import FollowedLedger, FollowedLog
from tests.faults.erasure_traffic import OWNERS, ErasureTraffic
from tests.faults.erasure_victims import ERASERS, SINKS, ErasureSize, Victims, instance_of
from tests.faults.sink_offsets import SinkOffsets
from tests.faults.stage_exits import StageExit

TICK_S = 0.05
LOOK_S = 1.0
"""Interval at which the brokers are asked whether the storm is over."""
PROGRESS_S = 15.0
END_S = 1200.0
"""Longest wait for the last erasure and its receipt."""


class ErasureOutcome(NamedTuple):
    """A storm that is over."""

    evidence: ErasureEvidence
    kills: Counter[str]
    """By process."""
    met: Counter[str]
    """Kills by the gap that they met."""
    cosigned: int
    exits: list[StageExit]


def erasure_storm(stack: Stack, size: ErasureSize, seed: int) -> ErasureOutcome:
    """Run a storm, wait until all is erased, and collect the evidence.  The processes run on."""
    with ExitStack() as opened:
        storm = opened.enter_context(closing(_Storm(stack, size, seed)))
        storm.run()
        return storm.collect()


class _Storm:
    def __init__(self, stack: Stack, size: ErasureSize, seed: int) -> None:
        self._settings: Settings = load(stack.files.settings)
        self._size = size
        dice = random.Random(seed)
        self._delays = BucketDelays(stack.files.bucket_faults, dice)
        self._victims = Victims(stack, size, dice, after=self._after_kill)
        self._sink_kills: list[SinkKill] = []
        self._allowed = 0
        self._progress = Deadline(0, time.monotonic)
        with ExitStack() as opened:
            self._observer = opened.enter_context(closing(ErasureObserver(self._settings)))
            self._ledger = opened.enter_context(closing(FollowedLedger(self._settings, SHOP)))
            self._log = opened.enter_context(closing(FollowedLog(self._settings)))
            self._offsets = opened.enter_context(closing(SinkOffsets(stack)))
            traffic = ErasureTraffic(
                self._settings, accounts=size.accounts, pictures=size.pictures, seed=seed
            )
            self._traffic = opened.enter_context(closing(traffic))
            self._opened = opened.pop_all()
        self._gaps = Gaps(
            stack,
            self._victims,
            dice,
            ledger=self._ledger,
            log=self._log,
            observer=self._observer,
            ambushes=size.ambushes,
        )

    def run(self) -> None:
        """Run the storm until all is erased and has a receipt."""
        with ThreadPoolExecutor(2) as pool:
            watching = pool.submit(self._observer.run)
            running = pool.submit(self._traffic.run)
            try:
                while not (running.done() and self._victims.have_been_killed()):
                    self._turn()
                    self._allow()
                running.result()
                self._victims.are_spared = True
                self._wait(self._are_erased)
                self._wait(self._are_drained)
                self._wait(self._have_receipts)
            finally:
                self._traffic.stop()
                self._observer.stop()
                self._delays.end()
            watching.result()

    def collect(self) -> ErasureOutcome:
        """Let the auditor look once more, and return what there is."""
        sys.stderr.write("all is over; collecting the evidence\n")
        self._observer.cosign()
        evidence = collect(
            self._settings,
            accounts=self._traffic.accounts,
            written=self._traffic.pictures.written,
            sink_kills=self._sink_kills,
            observer=self._observer,
            ledger=self._ledger,
            log=self._log,
        )
        victims, met = self._victims, self._gaps.met
        return ErasureOutcome(evidence, victims.kills, met, self._observer.grown, victims.exits)

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()

    def _turn(self) -> None:
        self._delays.turn()
        self._victims.turn()
        self._gaps.turn()
        if self._progress.has_passed:
            self._progress = Deadline(PROGRESS_S, time.monotonic)
            sys.stderr.write(
                f"{self._allowed} accounts, {len(self._ledger.erasures)} erasures, "
                f"{len(self._log.ids)} leaves, {self._victims.kills.total()} kills, "
                f"in gaps {self._gaps.met.total()}\n"
            )
        time.sleep(TICK_S)

    def _allow(self) -> None:
        """Let accounts begin in step with the kills of the sinks."""
        size = self._size
        wanted = len(SINKS) * size.kills[SINK]
        due = OWNERS + size.accounts * self._victims.count_of(SINK) // wanted
        due = min(size.accounts, due)
        self._traffic.allow(due - self._allowed)
        self._allowed = due

    def _after_kill(self, name: str, alive: datetime) -> None:
        if name in SINKS:
            self._sink_kills.append(SinkKill(alive, self._offsets.of(instance_of(name))))
        elif name in ERASERS:
            self._gaps.killed_eraser()

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline, look = Deadline(END_S, time.monotonic), Deadline(0, time.monotonic)
        while not deadline.has_passed:
            if look.has_passed:
                if persist(condition):
                    return
                look = Deadline(LOOK_S, time.monotonic)
            self._turn()
        raise TimeoutError

    def _are_erased(self) -> bool:
        self._ledger.read()
        return all(map(self._ledger.has_ended, self._traffic.accounts))

    def _are_drained(self) -> bool:
        """Return whether the sinks have committed all pictures."""
        groups = GroupOffsets(Connection(cluster=self._settings.cluster, role=SINK))
        ends = self._traffic.pictures.ends
        committed = groups.committed(SINK, ends)
        return all(at in committed and committed[at].offset >= end for at, end in ends.items())

    def _have_receipts(self) -> bool:
        """Return whether the log has all that the ledger attests."""
        self._ledger.read_to_end()
        self._log.read()
        return all(found.keys() <= self._log.ids for found in self._ledger.attested.values())

"""The storm: traffic, a fault every two seconds, then calm, then the verdict."""

import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Thread

from erasestream.topics.catalog import LaneRole, lane_role
from erasestream.topics.connection import Connection
from erasestream.topics.consent import ConsentWriter
from erasestream.topics.producer import UploadProducer
from tests.bench.running import BULK, SHOP
from tests.faults.checker import Evidence, Verdict, judge
from tests.faults.cluster import StormCluster
from tests.faults.observer import Observer
from tests.faults.plan import OF_BROKERS, Fault, Kind, faults
from tests.faults.traffic import ALWAYS, ONCE, Decisions, Uploads
from tests.inference.tiny_model import build_tiny_model

EVERY_S = 2.0
TICK_S = 0.2
DRAIN_S = 240.0
JUDGE_EVERY_S = 5.0
SKEW_S = 2.5


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a storm is: it ends with the uploads or with the time, whatever comes first."""

    uploads: int
    seconds: float
    deciders: int = 10
    every_s: float = EVERY_S


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done and what came of it."""

    seconds: float
    uploads: int
    decisions: int
    confirmed: int
    faults: Counter[str]
    restarts: Counter[str]
    verdict: Verdict

    @property
    def kills(self) -> int:
        """How often something was killed."""
        return self.faults[Kind.KILL_STAGE] + self.faults[Kind.KILL_BROKER]


def storm(size: Size, seed: int, folder: Path | None = None) -> Outcome:
    """One storm; its folder is deleted at the end unless one is given."""
    if folder is None:
        with tempfile.TemporaryDirectory() as own:
            return storm(size, seed, Path(own))
    models = folder / "models"
    build_tiny_model(models)
    cluster = StormCluster(folder, models=models, dice=Random(seed))
    try:
        cluster.start()
        return _Run(cluster, size, seed).run()
    finally:
        cluster.stop()


class _Run:
    def __init__(self, cluster: StormCluster, size: Size, seed: int) -> None:
        self._cluster, self._size = cluster, size
        self._faults = faults(seed)
        self._held: Fault | None = None
        ways = {SHOP: cluster.stack.cluster, BULK: cluster.proxied}
        self._decisions = Decisions(
            {
                lane: ConsentWriter(
                    connection=Connection(cluster=way, role=lane_role(lane, LaneRole.ACCOUNT)),
                    lane=lane,
                )
                for lane, way in ways.items()
            },
            threads=size.deciders,
        )
        self._producers = {lane: UploadProducer(way, lane) for lane, way in ways.items()}
        self._seed = seed

    def run(self) -> Outcome:
        observer = self._cluster.observe()
        try:
            self._decisions.grant(ALWAYS)
            time.sleep(SKEW_S)
            began = time.monotonic()
            uploads = Uploads(
                self._producers, observer.results, count=self._size.uploads, seed=self._seed
            )
            self._decisions.start()
            self._blow(uploads, observer)
            uploads.stop()
            self._decisions.stop()
            seconds = time.monotonic() - began
            verdict = self._settled(uploads, observer)
        finally:
            observer.close()
        return Outcome(
            seconds=seconds,
            uploads=len(uploads.sent),
            decisions=self._decisions.count,
            confirmed=sum(map(len, self._decisions.confirmed.values())),
            faults=self._cluster.done,
            restarts=self._cluster.restarts,
            verdict=verdict,
        )

    def _blow(self, uploads: Uploads, observer: Observer) -> None:
        began = time.monotonic()
        end, fault_at, late = began + self._size.seconds, began + self._size.every_s, True
        while not uploads.is_done and time.monotonic() < end:
            time.sleep(TICK_S)
            self._cluster.tick()
            if late and time.monotonic() > (began + end) / 2:
                late = False
                Thread(target=self._decisions.grant, args=(ONCE,), daemon=True).start()
            if time.monotonic() >= fault_at:
                fault = self._break_next()
                fault_at = time.monotonic() + self._size.every_s
                self._say(time.monotonic() - began, fault, uploads, observer)

    def _break_next(self) -> Fault:
        """The next fault; one of a broker waits for its turn, and others go before it."""
        whole = self._cluster.may_break_a_broker()
        if self._held and whole:
            fault, self._held = self._held, None
        else:
            fault = next(self._faults)
            while fault.kind in OF_BROKERS and not whole:
                self._held = self._held or fault
                fault = next(self._faults)
        self._cluster.break_(fault)
        return fault

    def _settled(self, uploads: Uploads, observer: Observer) -> Verdict:
        """The verdict once nothing is missing, or after the deadline."""
        end = time.monotonic() + DRAIN_S
        while True:
            deadline = time.monotonic() + JUDGE_EVERY_S
            while time.monotonic() < deadline:
                self._cluster.tick(heal=True)
                time.sleep(TICK_S)
            verdict = judge(self._evidence(uploads, observer))
            if not (verdict.lost or verdict.not_retained_after_grant or _halves(verdict)):
                return verdict
            sys.stderr.write(f"waiting: {verdict.wrong}\n")
            if time.monotonic() > end:
                return verdict

    def _evidence(self, uploads: Uploads, observer: Observer) -> Evidence:
        return Evidence(
            sent=dict(uploads.sent),
            topics={topic: dict(records) for topic, records in observer.seen.items()},
            stored=self._cluster.stored(),
            known=dict(self._decisions.known),
            confirmed=dict(self._decisions.confirmed),
            missed=dict(observer.missed),
        )

    def _say(self, at_s: float, fault: Fault, uploads: Uploads, observer: Observer) -> None:
        what = fault.broker if fault.kind in OF_BROKERS else fault.stage
        sys.stderr.write(
            f"{at_s:5.0f} s  {len(uploads.sent)} uploads  {len(observer.results)} results"
            f"  {self._decisions.count} decisions  {self._cluster.done.total()} faults,"
            f" now {fault.kind} ({what})\n"
        )


def _halves(verdict: Verdict) -> int:
    return verdict.details["one part without the other"]

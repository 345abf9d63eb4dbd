"""The storm: traffic, a fault every two seconds, then calm, then the verdict."""

import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Thread

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.connection import Cluster, Connection
from tests.bench.running_pipeline import BULK, SHOP
from tests.faults.checker import Evidence, Verdict, judge
from tests.faults.consent_traffic import ALWAYS, ONCE, ConsentTraffic
from tests.faults.fault_plan import OF_BROKERS, Fault, FaultKind, fault_sequence
from tests.faults.observer import Observer
from tests.faults.stage_exits import StageExit, TransactionCounts
from tests.faults.storm_cluster import StormCluster
from tests.faults.upload_traffic import UploadTraffic
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

EVERY_S = 2.0
TICK_S = 0.2
MOST_LATE_S = 1.0
"""A fault that came later than this is not made up for by two at once."""
DRAIN_S = 600.0
JUDGE_EVERY_S = 5.0
SKEW_S = 2.5


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a storm is.

    It ends when so many uploads are sent, so many faults are done and each kind of fault is
    among them; or with the time, if that comes first.
    """

    uploads: int
    seconds: float
    faults: int = len(FaultKind)
    max_waiting: int = 1500
    """Uploads without a result, beyond which the next waits: traffic is as fast as the pipeline.

    Many: else those for a partition whose worker is away soon hold up all the others.
    """
    deciders: int = 80
    every_s: float = EVERY_S
    waits_for_stages: bool = False
    """Whether the next fault waits until what was killed is ready again.

    So that a slow machine gets on: else all might be killed before it has begun.
    """


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done and what came of it."""

    seconds: float
    uploads: int
    decisions: int
    confirmed: int
    faults: Counter[str]
    transactions: TransactionCounts
    endings: list[StageExit]
    """Of stages that nobody had killed."""
    is_whole: bool
    """Whether everything came back at the end."""
    verdict: Verdict

    @property
    def kills(self) -> int:
        """How often something was killed."""
        return self.faults[FaultKind.KILL_STAGE] + self.faults[FaultKind.KILL_BROKER]

    @property
    def wrong(self) -> dict[str, int]:
        """What must be zero."""
        unexplained = sum(not ending.is_expected for ending in self.endings)
        return {
            **self.verdict.wrong,
            "ended_unexplained": unexplained,
            "did_not_come_back": int(not self.is_whole),
            "two_writers_not_judged": int(not self.verdict.shared.total()),
        }


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


def _writer(lane: Lane, way: Cluster) -> ConsentWriter:
    role = lane_role(lane, LaneRole.ACCOUNT)
    return ConsentWriter(connection=Connection(cluster=way, role=role), lane=lane)


class _Run:
    def __init__(self, cluster: StormCluster, size: Size, seed: int) -> None:
        self._cluster, self._size = cluster, size
        self._faults = fault_sequence(seed)
        self._held: deque[Fault] = deque()
        ways = {SHOP: cluster.stack.cluster, BULK: cluster.proxied}
        self._owners = ConsentTraffic(
            {
                lane: (_writer(lane, way), _writer(lane, cluster.proxied))
                for lane, way in ways.items()
            },
            threads=size.deciders,
        )
        self._producers = {lane: UploadProducer(way, lane) for lane, way in ways.items()}
        self._seed = seed

    def run(self) -> Outcome:
        observer = self._cluster.observe()
        try:
            self._owners.grant(ALWAYS)
            time.sleep(SKEW_S)
            began = time.monotonic()
            uploads = UploadTraffic(
                self._producers,
                observer.results,
                max_waiting=self._size.max_waiting,
                seed=self._seed,
            )
            self._owners.start()
            self._blow(uploads, observer)
            seconds, decisions = time.monotonic() - began, self._owners.count
            uploads.stop()
            self._owners.stop()
            verdict, is_whole = self._settled(uploads, observer)
        finally:
            observer.close()
        return Outcome(
            seconds=seconds,
            uploads=len(uploads.sent),
            decisions=decisions,
            confirmed=self._owners.confirmed,
            faults=self._cluster.done,
            transactions=self._cluster.transactions(),
            endings=self._cluster.endings,
            is_whole=is_whole,
            verdict=verdict,
        )

    def _blow(self, uploads: UploadTraffic, observer: Observer) -> None:
        began = time.monotonic()
        end, fault_at, late = began + self._size.seconds, began + self._size.every_s, True
        while not self._is_enough(uploads) and time.monotonic() < end:
            time.sleep(TICK_S)
            self._cluster.tick()
            now = time.monotonic()
            if late and (now > (began + end) / 2 or len(uploads.sent) > self._size.uploads / 2):
                late = False
                Thread(target=self._owners.grant, args=(ONCE,), daemon=True).start()
            if now >= fault_at and self._may_break():
                fault = self._break_next()
                fault_at = max(fault_at, now - MOST_LATE_S) + self._size.every_s
                self._say(now - began, fault, uploads, observer)

    def _may_break(self) -> bool:
        return not self._size.waits_for_stages or self._cluster.are_stages_ready()

    def _is_enough(self, uploads: UploadTraffic) -> bool:
        done = self._cluster.done
        return (
            len(uploads.sent) >= self._size.uploads
            and done.total() >= self._size.faults
            and len(done) == len(FaultKind)
        )

    def _break_next(self) -> Fault:
        """The next fault; those of brokers wait for their turn in line, and others go before."""
        whole = self._cluster.may_break_a_broker()
        if self._held and whole:
            fault = self._held.popleft()
        else:
            fault = next(self._faults)
            while fault.kind in OF_BROKERS and not whole:
                self._held.append(fault)
                fault = next(self._faults)
        self._cluster.break_(fault)
        return fault

    def _settled(self, uploads: UploadTraffic, observer: Observer) -> tuple[Verdict, bool]:
        """The verdict once all is back and nothing is missing or new, or after the deadline.

        And whether all is back.
        """
        end = time.monotonic() + DRAIN_S
        before = -1
        while True:
            deadline = time.monotonic() + JUDGE_EVERY_S
            while time.monotonic() < deadline:
                self._cluster.tick(heal=True)
                time.sleep(TICK_S)
            count, is_whole = observer.count, self._cluster.is_whole()
            verdict = judge(self._evidence(uploads, observer))
            is_calm = is_whole and count == before and not verdict.is_incomplete
            if is_calm or time.monotonic() > end:
                return verdict, is_whole
            sys.stderr.write(f"waiting: whole {is_whole}, {count - before} new, {verdict.wrong}\n")
            before = count

    def _evidence(self, uploads: UploadTraffic, observer: Observer) -> Evidence:
        return Evidence(
            sent=dict(uploads.sent),
            topics={topic: dict(records) for topic, records in observer.seen.items()},
            stored=self._cluster.stored(),
            calls={account: tuple(calls) for account, calls in self._owners.calls.copy().items()},
            missed=dict(observer.missed),
        )

    def _say(self, at_s: float, fault: Fault, uploads: UploadTraffic, observer: Observer) -> None:
        what = fault.broker if fault.kind in OF_BROKERS else fault.stage
        sys.stderr.write(
            f"{at_s:5.0f} s  {len(uploads.sent)} uploads  {len(observer.results)} results"
            f"  {self._owners.count} decisions  {self._cluster.done.total()} faults,"
            f" now {fault.kind} ({what})\n"
        )

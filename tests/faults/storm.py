"""The storm: traffic with a fault every two seconds, then calm, then the verdict."""

import sys
import tempfile
import time
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Thread

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.connection import Cluster, Connection
from tests.bench.running_pipeline import BULK, SHOP
from tests.faults.checker import judge
from tests.faults.consent_traffic import ALWAYS, ONCE, ConsentTraffic
from tests.faults.decision_recorder import DecisionRecorder
from tests.faults.evidence import Evidence
from tests.faults.fault_plan import OF_BROKERS, Fault, FaultKind, fault_sequence
from tests.faults.observer import Observer
from tests.faults.stage_exits import StageExit, TransactionCounts
from tests.faults.storm_cluster import StormCluster
from tests.faults.upload_traffic import UploadTraffic
from tests.faults.verdict import Verdict
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

EVERY_S = 2.0
TICK_S = 0.2
MAX_LATE_S = 1.0
"""A fault that came later than this does not make the next one come sooner."""
DRAIN_S = 600.0
JUDGE_EVERY_S = 5.0
SKEW_S = 2.5


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a storm.

    The storm ends once this many uploads are sent, this many faults are injected, and every
    kind of fault is among them; or when its time is over, if that comes first.
    """

    uploads: int
    seconds: float
    faults: int = len(FaultKind)
    max_waiting: int = 1500
    """Uploads without a result, above which sending pauses: traffic follows the pipeline.

    Large, because uploads to a partition without a worker would soon hold up all others.
    """
    partitions: int = 8
    """Partitions of each lane's uploads, for two workers and two routers."""
    deciders: int = 80
    every_s: float = EVERY_S
    waits_for_stages: bool = False
    """Whether each fault waits until every stage is ready again.

    For slow machines, where all stages might otherwise be killed before they start to work.
    """


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a storm."""

    seconds: float
    uploads: int
    decisions: int
    confirmed: int
    faults: Counter[str]
    transactions: TransactionCounts
    exits: list[StageExit]
    """Stages and brokers that ended without being killed."""
    is_whole: bool
    """Whether everything was up again at the end."""
    verdict: Verdict

    @property
    def kills(self) -> int:
        """The number of stages and brokers that were killed."""
        return self.faults[FaultKind.KILL_STAGE] + self.faults[FaultKind.KILL_BROKER]

    @property
    def wrong(self) -> dict[str, int]:
        """The counts that must be zero."""
        unexplained = sum(not each.is_expected for each in self.exits)
        return {
            **self.verdict.wrong,
            "ended_unexplained": unexplained,
            "quarantined": self.transactions.quarantined,
            "did_not_come_back": int(not self.is_whole),
            "two_writers_not_judged": int(not self.verdict.shared.total()),
        }


def storm(size: Size, seed: int, folder: Path | None = None) -> Outcome:
    """Run one storm; delete its folder at the end unless one is given."""
    if folder is None:
        with tempfile.TemporaryDirectory() as own:
            return storm(size, seed, Path(own))
    models = folder / "models"
    build_tiny_model(models)
    cluster = StormCluster(folder, models=models, partitions=size.partitions, dice=Random(seed))
    with ExitStack() as opened:
        opened.callback(cluster.stop)
        cluster.start()
        return _Storm(cluster, size, seed, opened).run()


def _writer(lane: Lane, cluster: Cluster) -> ConsentWriter:
    role = lane_role(lane, LaneRole.ACCOUNT)
    return ConsentWriter(connection=Connection(cluster=cluster, role=role), lane=lane)


class _Storm:
    def __init__(self, cluster: StormCluster, size: Size, seed: int, opened: ExitStack) -> None:
        self._cluster, self._size, self._seed = cluster, size, seed
        self._schedule = _FaultSchedule(cluster, seed)
        ways = {SHOP: cluster.stack.cluster, BULK: cluster.proxied}
        self._decisions = DecisionRecorder(
            {
                lane: (_writer(lane, way), _writer(lane, cluster.proxied))
                for lane, way in ways.items()
            }
        )
        self._consent = ConsentTraffic(self._decisions, threads=size.deciders)
        self._producers = {
            lane: opened.enter_context(UploadProducer(way, lane)) for lane, way in ways.items()
        }

    def run(self) -> Outcome:
        observer = self._cluster.observe()
        try:
            self._consent.grant(ALWAYS)
            time.sleep(SKEW_S)
            began_s = time.monotonic()
            uploads = UploadTraffic(
                self._producers,
                observer.results,
                max_waiting=self._size.max_waiting,
                seed=self._seed,
            )
            self._consent.start()
            self._inject_faults(uploads, observer)
            seconds, decisions = time.monotonic() - began_s, self._decisions.count
            uploads.stop()
            self._consent.stop()
            verdict, is_whole = self._wait_for_verdict(uploads, observer)
        finally:
            observer.close()
        return Outcome(
            seconds=seconds,
            uploads=len(uploads.sent),
            decisions=decisions,
            confirmed=self._decisions.confirmed,
            faults=self._cluster.injected,
            transactions=self._cluster.stages.transactions(),
            exits=self._cluster.exits,
            is_whole=is_whole,
            verdict=verdict,
        )

    def _inject_faults(self, uploads: UploadTraffic, observer: Observer) -> None:
        size, began_s = self._size, time.monotonic()
        deadline = Deadline(size.seconds, time.monotonic)
        fault_at_s, has_opted_in_once = began_s + size.every_s, False
        while not self._is_enough(uploads) and not deadline.has_passed:
            time.sleep(TICK_S)
            self._cluster.tick()
            now_s = time.monotonic()
            is_half_over = deadline.remaining_s < size.seconds / 2
            if not has_opted_in_once and (is_half_over or len(uploads.sent) > size.uploads / 2):
                has_opted_in_once = True
                Thread(target=self._consent.grant, args=(ONCE,), daemon=True).start()
            if now_s >= fault_at_s and self._may_inject():
                fault = self._schedule.inject_next()
                fault_at_s = max(fault_at_s, now_s - MAX_LATE_S) + size.every_s
                self._show(now_s - began_s, fault, uploads, observer)

    def _may_inject(self) -> bool:
        return not self._size.waits_for_stages or self._cluster.stages.are_ready()

    def _is_enough(self, uploads: UploadTraffic) -> bool:
        injected = self._cluster.injected
        return (
            len(uploads.sent) >= self._size.uploads
            and injected.total() >= self._size.faults
            and len(injected) == len(FaultKind)
        )

    def _wait_for_verdict(self, uploads: UploadTraffic, observer: Observer) -> tuple[Verdict, bool]:
        """Judge until everything is up, and nothing is missing or new, or a deadline passes.

        Also return whether everything is up.
        """
        deadline = Deadline(DRAIN_S, time.monotonic)
        before = -1
        while True:
            pause = Deadline(JUDGE_EVERY_S, time.monotonic)
            while not pause.has_passed:
                self._cluster.tick(heal=True)
                time.sleep(TICK_S)
            count, is_whole = observer.count, self._cluster.is_whole()
            verdict = judge(self._evidence(uploads, observer))
            is_calm = is_whole and count == before and not verdict.is_incomplete
            if is_calm or deadline.has_passed:
                return verdict, is_whole
            sys.stderr.write(f"waiting: whole {is_whole}, {count - before} new, {verdict.wrong}\n")
            before = count

    def _evidence(self, uploads: UploadTraffic, observer: Observer) -> Evidence:
        calls = self._decisions.calls.copy()
        return Evidence(
            sent=dict(uploads.sent),
            topics={topic: dict(records) for topic, records in observer.records.items()},
            stored=self._cluster.stored(),
            calls={account: tuple(made) for account, made in calls.items()},
            missed=dict(observer.missed),
        )

    def _show(self, at_s: float, fault: Fault, uploads: UploadTraffic, observer: Observer) -> None:
        target = fault.broker if fault.kind in OF_BROKERS else fault.stage
        sys.stderr.write(
            f"{at_s:5.0f} s  {len(uploads.sent)} uploads  {len(observer.results)} results"
            f"  {self._decisions.count} decisions  {self._cluster.injected.total()} faults,"
            f" now {fault.kind} ({target})\n"
        )


class _FaultSchedule:
    """The seed's faults in order, except that broker faults wait until a broker may be broken."""

    def __init__(self, cluster: StormCluster, seed: int) -> None:
        self._cluster = cluster
        self._faults = fault_sequence(seed)
        self._held: deque[Fault] = deque()

    def inject_next(self) -> Fault:
        """Inject the next fault; broker faults keep their order among themselves."""
        may_break_broker = self._cluster.brokers.may_break_one()
        if self._held and may_break_broker:
            fault = self._held.popleft()
        else:
            fault = next(self._faults)
            while fault.kind in OF_BROKERS and not may_break_broker:
                self._held.append(fault)
                fault = next(self._faults)
        self._cluster.inject(fault)
        return fault

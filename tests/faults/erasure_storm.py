"""Two sinks, two erasers and two writers of receipts, killed all the time while owners revoke.

A storm goes on until all owners are done and each process was killed often enough.  Then, as
erasures end one after another, erasers and writers of receipts are killed at once: between the
deed and its receipt.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from signal import SIGKILL
from typing import NamedTuple

from erasestream.pipeline.bootstrap.receipts import attested_about, log_reader
from erasestream.pipeline.bootstrap.storage import retained_reader
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import Settings, load
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.events.receipts import decode_leaf
from erasestream.sinks.log.log_reader import new_leaves
from erasestream.topics.catalog.roles import SINK
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.records import Partition
from tests.bench.running_pipeline import SHOP
from tests.faults.erasure_check import Erasures, judge_buckets, judge_receipts
from tests.faults.erasure_observer import ErasureObserver
from tests.faults.erasure_traffic import Account, ErasureTraffic
from tests.faults.stage_exits import StageExit

TICK_S = 0.1
END_S = 1200.0
"""Longest wait for the last erasure and its receipt."""


@dataclass(frozen=True, kw_only=True)
class ErasureSize:
    """Size of a storm."""

    accounts: int
    pictures: int
    """Pictures that are written at a time; each account writes them one to three times."""
    seconds: float
    """Time over which the accounts begin."""
    kills: int
    """Kills of each process, at least, before the end; and of all of them at the end."""
    processes: Sequence[str]
    longest_s: Mapping[str, float]
    """Longest life of a process, by its stage: an erasure takes half a minute."""


class ErasureOutcome(NamedTuple):
    """Counts; nothing is wrong if all of `wrong` are zero."""

    accounts: int
    receipts: int
    kills: Counter[str]
    cosigned: int
    wrong: Counter[str]
    exits: list[StageExit]
    refused: Counter[str]
    """Sentences of the auditor."""


class Victims:
    """Processes that are killed, each some time after it was ready, and started again at once.

    For the thread that has started them.
    """

    def __init__(self, stack: Stack, size: ErasureSize, dice: random.Random) -> None:
        self._stack, self._size, self._dice = stack, size, dice
        self._due: dict[str, Deadline] = {}
        self.kills = Counter[str]()
        self.exits: list[StageExit] = []
        self.are_spared = False

    def turn(self) -> None:
        """Start those that have ended, and kill those whose time has come."""
        for name in self._size.processes:
            if self._stack.stage(name).process_id is None:
                self._start(name)
            elif name in self._due:
                if self._due[name].has_passed and not self.are_spared:
                    self.kill(name)
            elif '"ready"' in self._stack.log_of(name).read_text():
                life_s = self._dice.uniform(0, self._size.longest_s[_stage(name)])
                self._due[name] = Deadline(life_s, time.monotonic)

    def kill(self, name: str) -> None:
        """Kill a process, as a power cut would."""
        self._due.pop(name, None)
        self.kills[name] += 1
        self._stack.stage(name).kill()

    def have_been_killed(self) -> bool:
        """Return whether each was killed often enough."""
        return all(self.kills[name] >= self._size.kills for name in self._size.processes)

    def _start(self, name: str) -> None:
        status = self._stack.stage(name).exit_code
        if status is not None and status != -SIGKILL:
            self.exits.append(StageExit.of(name, status, self._stack.log_of(name)))
        self._due.pop(name, None)
        instance = name.partition("-")[2] or "1"
        self._stack.start_stage(_stage(name), name=name, ERASESTREAM_STAGE__INSTANCE=instance)


def _stage(name: str) -> str:
    return name.partition("-")[0]


def erasure_storm(stack: Stack, size: ErasureSize, seed: int) -> ErasureOutcome:
    """Run a storm, wait until all is erased, and judge.  The processes run on."""
    settings, dice = load(stack.files.settings), random.Random(seed)
    victims = Victims(stack, size, dice)
    with ExitStack() as opened:
        traffic = opened.enter_context(
            closing(
                ErasureTraffic(
                    settings,
                    accounts=size.accounts,
                    pictures=size.pictures,
                    seconds=size.seconds,
                    seed=seed,
                )
            )
        )
        observer = opened.enter_context(closing(ErasureObserver(settings)))
        reader = opened.enter_context(retained_reader(settings))
        watching = threading.Thread(target=observer.run)
        watching.start()
        try:
            _run(traffic, victims)
            _wait_until_erased(traffic, victims, size)
            victims.are_spared = True
            _wait(victims, lambda: _is_drained(settings, traffic.ends))
            _wait(victims, lambda: _have_receipts(settings, traffic.accounts))
        finally:
            traffic.stop()
            observer.stop()
            watching.join()
        observer.cosign()
        wrong = judge_buckets(traffic.accounts, observer, reader)
        receipts, refused = judge_receipts(traffic.accounts, settings, observer, traffic.reader)
        wrong.update({f"receipts_{name}": count for name, count in refused.items()})
        wrong["ended_unexplained"] = sum(not each.is_expected for each in victims.exits)
        return ErasureOutcome(
            len(traffic.accounts),
            receipts,
            victims.kills,
            observer.grown,
            wrong,
            victims.exits,
            observer.refused,
        )


def _run(traffic: ErasureTraffic, victims: Victims) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(traffic.run)
        try:
            while not (running.done() and victims.have_been_killed()):
                victims.turn()
                time.sleep(TICK_S)
        finally:
            traffic.stop()
        running.result()


def _wait_until_erased(traffic: ErasureTraffic, victims: Victims, size: ErasureSize) -> None:
    """Wait for all erasures; kill, with each of the first that end, what does and reports it."""
    victims.are_spared = True
    left = {each.name: (each, Erasures.of(traffic.reader, each)) for each in traffic.accounts}
    kills = size.kills

    def have_ended() -> bool:
        nonlocal kills
        for name, (account, erasures) in list(left.items()):
            if erasures.have_ended(account):
                del left[name]
                if kills and left and (account.ended or account.requested):
                    kills -= 1
                    for process in size.processes:
                        victims.kill(process)
        return not left

    _wait(victims, have_ended)


def _wait(victims: Victims, condition: Callable[[], bool]) -> None:
    deadline = Deadline(END_S, time.monotonic)
    while not condition():
        if deadline.has_passed:
            raise TimeoutError
        victims.turn()
        time.sleep(TICK_S)


def _is_drained(settings: Settings, ends: Mapping[Partition, int]) -> bool:
    """Return whether the sinks have committed all pictures."""
    groups = GroupOffsets(Connection(cluster=settings.cluster, role=SINK))
    committed = groups.committed(SINK, ends)
    return all(at in committed and committed[at].offset >= end for at, end in ends.items())


def _have_receipts(settings: Settings, accounts: Sequence[Account]) -> bool:
    """Return whether the log has a leaf for all that these accounts decided and had erased."""
    with log_reader(settings) as log:
        newest = log.newest()
        ids = {decode_leaf(raw).id for raw in new_leaves(None, newest)} if newest else set()
    return all(
        attested.leaf.id in ids
        for account in accounts
        for attested in attested_about(settings, SHOP, account.name)
    )

"""Uploads through a gateway while gateway, worker, router, key service and broker are killed.

Each upload has an Idempotency-Key, and its client retries until it is answered; then it fetches the
answer again.  At the end every upload that a broker has must have a result, and exactly one unless
it was appended twice: under the same id, if its gateway was killed before it could mark the upload,
or the broker before it could acknowledge it.

The next victim is killed once all have recovered from the last: they run, are ready, and have
answered again.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from signal import SIGKILL
from typing import NamedTuple

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import BROKER, GATEWAY
from erasestream.pipeline.gateway.loop_thread import LoopThread
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, KEYS
from erasestream.topics.catalog.topic_names import ephemeral_of, uploads_of
from tests.bench.running_pipeline import wait_ready
from tests.faults.gateway_traffic import Finished, GatewayTraffic
from tests.faults.stage_exits import StageExit
from tests.flow.topic_reader import TopicReader, ids_in

VICTIMS = (GATEWAY, "infer", "route", KEYS, BROKER)
STAGES = ("infer", "route", GATEWAY)
TICK_S = 0.2
DRAIN_S = 300.0


@dataclass(frozen=True, kw_only=True)
class GatewaySize:
    """Size of a storm: it ends after `seconds`, and once each victim was killed."""

    clients: int
    seconds: float
    every_s: float
    patience_s: float
    """Longest wait for the recovery from a kill, which takes longer on a busy machine."""


class GatewayOutcome(NamedTuple):
    """Counts; nothing is wrong if all of `wrong` are zero."""

    uploads: int
    refused: Counter[str]
    appended_twice: int
    wrong: dict[str, int]
    codes: Counter[str]
    """Codes of the answers that no client should get."""


class Supervisor:
    """Kills processes of a stack, and starts all that have ended, as a supervisor would.

    For the thread that has started them.  `environment` is that of stages.
    """

    def __init__(self, stack: Stack, environment: Mapping[str, str]) -> None:
        self._stack = stack
        # A worker without a name of its own is a new member at each start, and waits until the
        # session of the killed one has timed out.
        self._environment = {"ERASESTREAM_STAGE__INSTANCE": "1", **environment}
        self._killed = set[str]()
        self.kills = Counter[str]()
        self.exits: list[StageExit] = []
        """Stages that ended without being killed."""

    def kill(self, name: str) -> None:
        """Kill a process, as a power cut would."""
        self.kills[name] += 1
        self._killed.add(name)
        if name == BROKER:
            self._stack.broker.kill()
        else:
            self._stack.stage(name).kill()

    def restart_ended(self) -> None:
        """Start the processes that do not run."""
        running = self._stack.running()
        if BROKER not in running:
            self._stack.broker.start()
        if KEYS not in running:
            self._stack.start_keys()
        for name in STAGES:
            # The main thread may end before the others: there is no exit status until they do.
            if name not in running and self._stack.stage(name).exit_code is not None:
                self._note_exit(name)
                self._stack.start_stage(name, **self._environment)

    def _note_exit(self, name: str) -> None:
        status = self._stack.stage(name).exit_code
        if not (status == -SIGKILL and name in self._killed):
            self.exits.append(StageExit.of(name, status, self._stack.log_of(name)))
        self._killed.discard(name)

    def is_whole(self) -> bool:
        """Return whether all run, and have logged that they are ready."""
        running = self._stack.running()
        return {BROKER, KEYS, *STAGES} <= running.keys() and all(
            '"ready"' in self._stack.log_of(name).read_text() for name in STAGES
        )

    def wait_until_whole(self) -> None:
        """Return once all run and are ready."""
        self.restart_ended()
        for name in STAGES:
            wait_ready(self._stack, name)


def gateway_storm(size: GatewaySize, traffic: GatewayTraffic, supervisor: Supervisor) -> None:
    """Run a storm until every upload that was begun is answered, or time is over."""
    with LoopThread("clients") as loop:
        running = loop.begin(traffic.run(size.clients, DRAIN_S))
        _kill_in_turn(size, traffic, supervisor)
        loop.call(traffic.stop())
        while not running.done():
            supervisor.restart_ended()
            time.sleep(TICK_S)
        running.result()


def _kill_in_turn(size: GatewaySize, traffic: GatewayTraffic, supervisor: Supervisor) -> None:
    while not traffic.finished:  # from then on there is something to be lost
        time.sleep(TICK_S)
        supervisor.restart_ended()
    begun_s, turn = time.monotonic(), 0
    while time.monotonic() - begun_s < size.seconds or turn < len(VICTIMS):
        victim = VICTIMS[turn % len(VICTIMS)]
        after_s = time.monotonic() - begun_s
        sys.stderr.write(
            f"{after_s:.0f} s: {len(traffic.finished)} answered, now kill -9 of {victim}\n"
        )
        supervisor.kill(victim)
        turn += 1
        _wait_for_recovery(size, traffic, supervisor)


def _wait_for_recovery(size: GatewaySize, traffic: GatewayTraffic, supervisor: Supervisor) -> None:
    pause = Deadline(size.every_s, time.monotonic)
    patience = Deadline(size.patience_s, time.monotonic)
    when_whole: int | None = None
    while True:
        time.sleep(TICK_S)
        supervisor.restart_ended()
        answered = len(traffic.finished)
        if when_whole is None and supervisor.is_whole():
            when_whole = answered
        has_recovered = when_whole is not None and answered > when_whole
        if pause.has_passed and (has_recovered or patience.has_passed):
            return


def judge(stack: Stack, lane: Lane, traffic: GatewayTraffic) -> GatewayOutcome:
    """Compare the answers with one another, and the lane's results with its uploads."""
    uploads, results = _ids(stack, uploads_of(lane)), _ids(stack, ephemeral_of(lane))
    return outcome_of(uploads, results, traffic)


def outcome_of(
    uploads: Counter[str], results: Counter[str], traffic: GatewayTraffic
) -> GatewayOutcome:
    """Compare the answers, and how often the broker has each upload and its result."""
    answered = {each.key for each in traffic.finished}
    wrong = {
        "unanswered": len(traffic.begun.keys() - answered),
        "wrongly_answered": traffic.wrong.total(),
        "answered_differently": sum(each.first != each.again for each in traffic.finished),
        "mixed_up": _mixed_up(traffic.finished),
        "lost": len(uploads.keys() - results.keys()),
        "duplicated": sum(results[upload] > count for upload, count in uploads.items()),
    }
    twice = sum(count > 1 for count in uploads.values())
    return GatewayOutcome(len(answered), traffic.refused, twice, wrong, traffic.wrong)


def _mixed_up(finished: Iterable[Finished]) -> int:
    """Count the answers that differ from most answers to the same photo."""
    answers: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for each in finished:
        answers[each.photo][each.first] += 1
    return sum(count.total() - max(count.values()) for count in answers.values())


def _ids(stack: Stack, topic: str) -> Counter[str]:
    """Count the committed records of each upload, as the administrator reads them."""
    partitions = stack.catalog()[topic].partitions
    with closing(TopicReader(stack.cluster, ADMIN, topic, partitions)) as reader:
        return Counter(ids_in(reader.read_to_end()))

"""Run the stages of a storm as a supervisor would: start each again once it has ended."""

import json
import time
from collections.abc import Sequence
from signal import SIGCONT, SIGKILL, SIGSTOP

from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.clocks import Deadline
from tests.bench.running_pipeline import wait_ready
from tests.faults.broker_faults import SUSPENDED_S, due
from tests.faults.fault_plan import KEY_REPLICAS, STAGES
from tests.faults.stage_exits import StageExit, TransactionCounts, count_transactions

PROXIED = frozenset({"infer-2", "route-2", "sink", "keys-2"})
"""The stages that reach the brokers through the proxies."""


class StageSupervisor:
    """All stages of one stack, each under a name of its own."""

    def __init__(self, stack: Stack, *, proxied_servers: Sequence[str]) -> None:
        self.exits: list[StageExit] = []
        """Stages that ended without being killed."""
        self._stack = stack
        self._proxied_servers = proxied_servers
        self._suspended: dict[str, Deadline] = {}
        self._killed: set[str] = set()
        self._restarts = 0

    def start(self) -> None:
        """Start all stages but the key service, which runs, and wait until all are ready."""
        for stage in STAGES:
            if stage not in KEY_REPLICAS:
                self._start(stage)
        for stage in STAGES:
            wait_ready(self._stack, stage)

    def kill(self, stage: str) -> None:
        """Send SIGKILL; the next `restart_ended` starts the stage again."""
        self._suspended.pop(stage, None)
        self._killed.add(stage)
        self._stack.stage(stage).kill()

    def suspend(self, stage: str) -> None:
        """Send SIGSTOP; the stage resumes after `SUSPENDED_S`."""
        self._stack.stage(stage).send(SIGSTOP)
        self._suspended[stage] = Deadline(SUSPENDED_S, time.monotonic)

    def resume(self, *, at_once: bool) -> None:
        """Resume the suspended stages that are due, or all `at_once`."""
        for stage in due(self._suspended, at_once=at_once):
            self._stack.stage(stage).send(SIGCONT)

    def restart_ended(self) -> None:
        """Restart every stage that has ended, and record its exit."""
        for stage in STAGES:
            ended = self._stack.stage(stage)
            # The main thread may end before the others: there is no exit status until they do.
            if ended.process_id is None and ended.exit_code is not None:
                self._record_exit(stage)
                self._start(stage)

    def are_ready(self) -> bool:
        """Return whether every stage runs and has logged that it is ready."""
        return all(map(self._is_ready, STAGES))

    def transactions(self) -> TransactionCounts:
        """Sum the transaction counts that the routers logged."""
        return count_transactions(self._stack.files.logs.glob("route*"))

    def _is_ready(self, stage: str) -> bool:
        runs = self._stack.stage(stage).process_id is not None
        return runs and '"ready"' in self._stack.log_of(stage).read_text()

    def _record_exit(self, stage: str) -> None:
        """Record an exit that is not our kill, and keep the log under a name that tells how."""
        log = self._stack.log_of(stage)
        status = self._stack.stage(stage).exit_code
        if status == -SIGKILL and stage in self._killed:
            how = "killed"
        else:
            self.exits.append(StageExit.of(stage, status, log))
            how = f"ended-with-{status}"
        self._killed.discard(stage)
        self._restarts += 1
        log.replace(log.with_name(f"{stage}.{self._restarts}.{how}"))

    def _start(self, name: str) -> None:
        command, _, number = name.partition("-")
        environment = {
            "ERASESTREAM_STAGE__INSTANCE": number or "1",
            "ERASESTREAM_STAGE__PURGE_INTERVAL": "PT10S",
            "ERASESTREAM_INFERENCE__CHILDREN": "1",
        }
        if name in PROXIED:
            servers = json.dumps(self._proxied_servers)
            environment["ERASESTREAM_KAFKA__BOOTSTRAP_SERVERS"] = servers
        if name in KEY_REPLICAS:
            self._stack.launch_keys(int(number or "1"), **environment)
        else:
            self._stack.start_stage(command, name=name, **environment)

"""The brokers of a stack: built from its plan, started together, found by their folders."""

from collections.abc import Callable
from pathlib import Path

from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess
from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.pipeline.devstack.stack_files import BROKER
from erasestream.pipeline.devstack.stack_plan import StackPlan

START_TIMEOUT_S = 180.0
STOP_GRACE_S = 15.0
CLUSTER_GRACE_S = 3.0
"""The last brokers of a cluster wait for a quorum that no longer exists, and are killed."""


class StackBrokers:
    """One broker, or several that form a cluster."""

    def __init__(self, directory: Path, identities: Path, attachment: Attachment) -> None:
        self._directory = directory
        self._identities = identities
        self._attachment = attachment
        self._brokers: tuple[Broker, ...] = ()

    def all(self, plan: StackPlan, libs: Callable[[], Path]) -> tuple[Broker, ...]:
        """Return all brokers, running or not.

        The same objects each time: only the parent can reap a process and read its exit code.
        `libs` returns the folder with Kafka's jars.
        """
        if not self._brokers:
            jars = libs()
            self._brokers = tuple(
                Broker(
                    self._folder(config.node_id),
                    self._identities,
                    jars,
                    config=config,
                    name=BROKER,
                    attachment=self._attachment,
                    heap_mb=plan.heap_mb,
                    java_options=plan.java_options,
                )
                for config in plan.broker_configs()
            )
        return self._brokers

    def start(self, plan: StackPlan, libs: Callable[[], Path]) -> None:
        """Start all brokers, and return once all are ready; otherwise kill all."""
        brokers = self.all(plan, libs)
        try:
            for broker in brokers:
                broker.launch()  # the brokers of a cluster need each other to become ready
            for broker in brokers:
                broker.wait_until_ready(timeout_s=START_TIMEOUT_S)
        except BaseException:
            for broker in brokers:
                broker.kill()
            raise

    def stop(self, count: int) -> None:
        """Stop all brokers, whichever process started them."""
        grace_s = STOP_GRACE_S if count == 1 else CLUSTER_GRACE_S
        for broker in self._brokers:
            broker.stop(grace_s=grace_s)
        for process in self.processes(count).values():
            process.stop(grace_s=grace_s)

    def processes(self, count: int) -> dict[str, ChildProcess]:
        """Return the processes of `count` brokers, by name."""
        folders = map(self._folder, range(1, count + 1))
        return {folder.name: ChildProcess(folder / "broker.pid") for folder in folders}

    def _folder(self, node_id: int) -> Path:
        return self._directory / (BROKER if node_id == 1 else f"{BROKER}-{node_id}")

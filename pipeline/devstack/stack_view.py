"""The parts of an embedded stack, running or not."""

import os
from collections.abc import Callable
from pathlib import Path

from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess
from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.pipeline.devstack.kafka.broker_config import ProxiedListener
from erasestream.pipeline.devstack.kafka.distribution import install_kafka
from erasestream.pipeline.devstack.stack_brokers import StackBrokers
from erasestream.pipeline.devstack.stack_files import BUCKET, StackFiles
from erasestream.pipeline.devstack.stack_plan import StackPlan
from erasestream.pipeline.devstack.stack_processes import StackProcesses
from erasestream.pipeline.settings import SETTINGS_VARIABLE, load
from erasestream.schemas.errors import Refused
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.connection import Cluster, Connection

Progress = Callable[[str], None]


class StackView:
    """Files, addresses and processes of the stack in one folder."""

    def __init__(
        self,
        directory: Path,
        *,
        cache: Path,
        attachment: Attachment = Attachment.ATTACHED,
        progress: Progress = lambda _line: None,
    ) -> None:
        """Open a stack's folder.  `cache`: the folder with Kafka's jars and the models."""
        self.files: StackFiles = StackFiles(directory)
        self._cache = cache
        self._progress = progress
        self._plan_file = self.files.directory / "stack.json"
        self._processes = StackProcesses(
            self.files.directory, logs=self.files.logs, attachment=attachment
        )
        self._brokers = StackBrokers(
            self.files.directory, self.files.identities, attachment=attachment
        )

    @property
    def exists(self) -> bool:
        """Whether the stack was created."""
        return self._plan_file.exists()

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which commands and stages find this stack."""
        return {**os.environ, SETTINGS_VARIABLE: str(self.files.settings)}

    @property
    def cluster(self) -> Cluster:
        """Addresses of brokers and key service, and the identities."""
        plan = self._plan()
        return Cluster(
            bootstrap_servers=tuple(config.bootstrap for config in plan.broker_configs()),
            identities=self.files.identities,
            key_endpoints=plan.key_endpoints,
        )

    @property
    def gateway_url(self) -> str:
        """Address of the gateway, running or not."""
        return self._plan().gateway_url

    @property
    def broker(self) -> Broker:
        """The broker, or the first of several, running or not."""
        return self.brokers[0]

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """All brokers, running or not."""
        return self._brokers.all(self._plan(), self._libs)

    @property
    def proxied_listeners(self) -> tuple[ProxiedListener, ...]:
        """The proxied listeners of a cluster's brokers."""
        listeners = (config.proxied_listener for config in self._plan().broker_configs())
        return tuple(listener for listener in listeners if listener)

    @property
    def bucket(self) -> ChildProcess:
        """The bucket server, running or not."""
        return self._processes.child(BUCKET)

    def stage(self, name: str) -> ChildProcess:
        """Return a stage, running or not."""
        return self._processes.child(name)

    def log_of(self, name: str) -> Path:
        """Return the file with the output of a stage or server."""
        return self._processes.log_of(name)

    def running(self) -> dict[str, int]:
        """Return the process ids of all running processes, by name."""
        children = self._processes.all() | self._brokers.processes(self._node_count())
        found = {name: child.process_id for name, child in sorted(children.items())}
        return {name: process.pid for name, process in found.items() if process}

    def catalog(self) -> Catalog:
        """Return the topics that the settings declare."""
        return load(self.files.settings).catalog()

    def admin(self) -> Connection:
        """Return the administrator's connection to the brokers."""
        return Connection(cluster=self.cluster, role=ADMIN)

    def _plan(self) -> StackPlan:
        if not self.exists:
            raise Refused(f"there is no stack in {self.files.directory}: run `erasestream dev up`")
        return StackPlan.load(self._plan_file)

    def _libs(self) -> Path:
        return install_kafka(self._cache, self._progress)

    def _node_count(self) -> int:
        return len(self._plan().nodes) if self.exists else 1

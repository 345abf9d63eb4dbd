"""The embedded stack: a real Kafka with mutual TLS and a private bucket, in one folder.

Several can run side by side: each has its own ports, certificates and data.  Everything is
started and stopped by the process ids in the folder, so that another process can find it.
Start an attached stack from a thread that lives as long as the stack does.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess
from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.pipeline.devstack.kafka.broker_config import ProxiedListener
from erasestream.pipeline.devstack.kafka.distribution import install_kafka
from erasestream.pipeline.devstack.kafka.java_launcher import HEAP_MB
from erasestream.pipeline.devstack.kafka.readiness import check_certificate, client_context
from erasestream.pipeline.devstack.private_folder import make_private
from erasestream.pipeline.devstack.stack_brokers import (
    START_TIMEOUT_S,
    STOP_GRACE_S,
    StackBrokers,
)
from erasestream.pipeline.devstack.stack_files import BUCKET, BUCKET_HOST, StackFiles
from erasestream.pipeline.devstack.stack_plan import StackPlan
from erasestream.pipeline.devstack.stack_processes import StackProcesses
from erasestream.pipeline.settings import SETTINGS_VARIABLE, LaneSettings, LifetimeSettings, load
from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.connection import Cluster, Connection

DEFAULT_LANES: Mapping[Lane, LaneSettings] = {
    Lane("shop"): LaneSettings(),
    Lane("bulk"): LaneSettings(),
}

Progress = Callable[[str], None]


class Stack:
    """One stack: created at its first start, and kept in its folder until that is deleted."""

    def __init__(
        self,
        directory: Path,
        *,
        cache: Path,
        attachment: Attachment = Attachment.ATTACHED,
        progress: Progress = lambda _line: None,
    ) -> None:
        """Open a stack's folder.  `cache`: the folder with Kafka's jars and the models."""
        self.files = StackFiles(directory)
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

    def create(
        self,
        *,
        lanes: Mapping[Lane, LaneSettings] = DEFAULT_LANES,
        lifetimes: LifetimeSettings | None = None,
        models: Path | None = None,
        model: str = "isnet",
        nodes: int = 1,
        heap_mb: int = HEAP_MB,
        java_options: Sequence[str] = (),
    ) -> None:
        """Choose ports and write all files; nothing is started.

        `nodes` brokers, each with `heap_mb` of heap and these Java options.  Each broker of a
        cluster has a proxied listener; see `proxied_listeners`.
        """
        lifetimes = lifetimes or LifetimeSettings()
        plan = StackPlan.choose(
            nodes=nodes, heap_mb=heap_mb, java_options=java_options, lifetimes=lifetimes
        )
        configs = plan.broker_configs()
        self.files.create_identities(lanes)
        self.files.create_secrets()
        self.files.write_bucket_settings(host=BUCKET_HOST, port=plan.bucket_port)
        self.files.write_settings(
            bootstrap=tuple(config.bootstrap for config in configs),
            durability=configs[0].durability,
            endpoint=f"https://{BUCKET_HOST}:{plan.bucket_port}",
            lanes=lanes,
            lifetimes=lifetimes,
            models=models or self._cache / "models",
            model=model,
        )
        plan.save(self._plan_file)

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which commands and stages find this stack."""
        return {**os.environ, SETTINGS_VARIABLE: str(self.files.settings)}

    @property
    def cluster(self) -> Cluster:
        """Addresses of the brokers, and the identities."""
        servers = tuple(config.bootstrap for config in self._plan().broker_configs())
        return Cluster(bootstrap_servers=servers, identities=self.files.identities)

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

    def start_servers(self) -> None:
        """Start brokers and bucket, and return once all are ready."""
        make_private(self.files.directory)
        self.start_bucket()
        self._brokers.start(self._plan(), self._libs)

    def start_bucket(self) -> None:
        """Start the bucket server and return once it is ready."""
        module = "erasestream.pipeline.devstack.gcs_emulator.server"
        arguments = ["-m", module, "--config", str(self.files.bucket_settings)]
        self._processes.launch(BUCKET, arguments, self.environment)
        context = client_context(self.files.identities, ADMIN)
        port = self._plan().bucket_port
        self._processes.wait_until_ready(
            BUCKET, lambda: check_certificate(BUCKET_HOST, port, context), timeout_s=START_TIMEOUT_S
        )

    def start_stage(self, command: str, *, name: str | None = None, **environment: str) -> None:
        """Start a stage by its CLI command, without waiting for it.

        `name` distinguishes several of a kind; `environment` adds to its settings.
        """
        module = "erasestream.pipeline.cli.main"
        self._processes.launch(
            name or command, ["-m", module, command], self.environment | environment
        )

    def stage(self, name: str) -> ChildProcess:
        """Return a stage, running or not."""
        return self._processes.child(name)

    def log_of(self, name: str) -> Path:
        """Return the file with the output of a stage or server."""
        return self._processes.log_of(name)

    def stop_stage(self, name: str, *, grace_s: float = STOP_GRACE_S) -> None:
        """Stop a stage: SIGTERM, and SIGKILL after the grace."""
        self.stage(name).stop(grace_s=grace_s)

    def stop(self) -> None:
        """Stop all running processes: first the stages, then the servers."""
        children = self._processes.all()
        for name in sorted(children, key=lambda name: name == BUCKET):
            children[name].stop(grace_s=STOP_GRACE_S)
        self._brokers.stop(self._node_count())

    def wipe(self) -> None:
        """Stop all processes and delete the folder: records, images, keys and certificates."""
        if not self.exists:
            raise Refused(f"there is no stack in {self.files.directory}")
        self.stop()
        shutil.rmtree(self.files.directory)

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

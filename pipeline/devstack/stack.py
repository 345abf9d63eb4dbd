"""The embedded stack: a real Kafka with mutual TLS and a private bucket, in one folder.

Several can run side by side: each has ports, certificates and data of its own.  Everything
is started and stopped by the process ids that stand in the folder, so that another process
finds it again.  Start an attached stack from a thread that lives as long as it does.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess
from erasestream.pipeline.devstack.kafka.broker import HEAP_MB, Broker, free_ports
from erasestream.pipeline.devstack.kafka.broker_config import BrokerConfig, ProxiedListener, cluster
from erasestream.pipeline.devstack.kafka.distribution import install_kafka
from erasestream.pipeline.devstack.kafka.readiness import check_certificate, client_context
from erasestream.pipeline.devstack.stack_files import BROKER, StackFiles
from erasestream.pipeline.settings import SETTINGS_VARIABLE, LaneSettings, LifetimeSettings, load
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.retention_budget import BrokerTimes
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.connection import Cluster, Connection

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_GRACE_S = 15.0
CLUSTER_GRACE_S = 3.0
"""The last brokers of a cluster wait for a quorum that is gone, and are ended."""
POLL_S = 0.05

DEFAULT_LANES: Mapping[Lane, LaneSettings] = {
    Lane("shop"): LaneSettings(),
    Lane("bulk"): LaneSettings(),
}

Progress = Callable[[str], None]


class Stack:
    """One stack: made at its first start, and kept in its folder until that is deleted."""

    def __init__(
        self,
        directory: Path,
        *,
        cache: Path,
        attachment: Attachment = Attachment.ATTACHED,
        progress: Progress = lambda _line: None,
    ) -> None:
        """`cache`: the folder that Kafka's jars and the models are kept in."""
        self.files = StackFiles(directory)
        self._cache = cache
        self._attachment = attachment
        self._progress = progress
        self._notes = self.files.directory / "stack.json"
        self._started: dict[str, ChildProcess] = {}
        self._brokers: tuple[Broker, ...] | None = None

    @property
    def exists(self) -> bool:
        """Whether it was made."""
        return self._notes.exists()

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
        """Choose ports and write all files; nothing runs yet.

        `nodes` brokers, each with `heap_mb` of heap and these options of Java's own.  Those of
        a cluster have a second way in each (`ProxiedListener`): who needs it forwards from
        `proxied_listeners`.
        """
        (bucket_port, *ports) = free_ports(1 + 4 * nodes)
        nodes_ports = [ports[n : n + 4] for n in range(0, len(ports), 4)]
        lifetimes = lifetimes or LifetimeSettings()
        self.files.create_identities(lanes)
        self.files.create_secrets()
        self.files.write_bucket_settings(host=HOST, port=bucket_port)
        self.files.write_settings(
            bootstrap=tuple(f"{HOST}:{port}" for port, *_ in nodes_ports),
            durability=cluster(ports=[(1, 2)] * nodes, random=bytes(16))[0].durability,
            endpoint=f"https://{HOST}:{bucket_port}",
            lanes=lanes,
            lifetimes=lifetimes,
            models=models or self._cache / "models",
            model=model,
        )
        notes = {
            "nodes": nodes_ports,
            "heap_mb": heap_mb,
            "java_options": list(java_options),
            "bucket_port": bucket_port,
            "random": os.urandom(16).hex(),
            "check_interval_s": lifetimes.check_interval.total_seconds(),
            "delete_delay_s": lifetimes.delete_delay.total_seconds(),
        }
        self._notes.write_text(json.dumps(notes))

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which commands and stages find this stack."""
        return {**os.environ, SETTINGS_VARIABLE: str(self.files.settings)}

    @property
    def cluster(self) -> Cluster:
        """Where the brokers are."""
        servers = tuple(config.bootstrap for config in self._configs())
        return Cluster(bootstrap_servers=servers, identities=self.files.identities)

    @property
    def broker(self) -> Broker:
        """The broker, or the first of several, running or not."""
        return self.brokers[0]

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """All brokers; the same objects each time, since only they can reap their processes."""
        if self._brokers is None:
            libs = install_kafka(self._cache, self._progress)
            self._brokers = tuple(
                Broker(
                    self._broker_directory(config.node_id),
                    self.files.identities,
                    libs,
                    config=config,
                    name=BROKER,
                    attachment=self._attachment,
                    heap_mb=self._noted()["heap_mb"],
                    java_options=self._noted().get("java_options", ()),
                )
                for config in self._configs()
            )
        return self._brokers

    @property
    def proxied_listeners(self) -> tuple[ProxiedListener, ...]:
        """The second ways into the brokers of a cluster."""
        return tuple(
            config.proxied_listener for config in self._configs() if config.proxied_listener
        )

    def _configs(self) -> list[BrokerConfig]:
        notes = self._noted()
        ports = [(port, controller) for port, controller, _, _ in notes["nodes"]]
        times = BrokerTimes(
            check_interval_s=notes["check_interval_s"], delete_delay_s=notes["delete_delay_s"]
        )
        configs = cluster(ports=ports, random=bytes.fromhex(notes["random"]), times=times)
        if len(configs) == 1:
            return list(configs)
        return [
            replace(config, proxied_listener=ProxiedListener(port=port, advertised_port=advertised))
            for config, (_, _, port, advertised) in zip(configs, notes["nodes"], strict=True)
        ]

    def _broker_directory(self, node_id: int) -> Path:
        return self.files.directory / (BROKER if node_id == 1 else f"{BROKER}-{node_id}")

    @property
    def bucket(self) -> ChildProcess:
        """The bucket server, running or not."""
        return self._child("bucket")

    def start_servers(self) -> None:
        """Start brokers and bucket, and wait until all serve."""
        self.files.logs.mkdir(exist_ok=True)
        self.start_bucket()
        try:
            for broker in self.brokers:
                broker.launch()  # those of a cluster need each other
            for broker in self.brokers:
                broker.wait_until_ready(timeout_s=START_TIMEOUT_S)
        except BaseException:
            for broker in self.brokers:
                broker.kill()
            raise

    def start_bucket(self) -> None:
        """Start the bucket server and wait until it serves."""
        module = "erasestream.pipeline.devstack.gcs_emulator.server"
        self._launch("bucket", ["-m", module, "--config", str(self.files.bucket_settings)])
        context = client_context(self.files.identities, str(ADMIN))
        self._wait("bucket", lambda: check_certificate(HOST, self._noted()["bucket_port"], context))

    def start_stage(self, command: str, *, name: str | None = None, **environment: str) -> None:
        """Start a stage by the command of the CLI; it is not awaited.

        `name` tells several of a kind apart; `environment` adds to its settings.
        """
        module = "erasestream.pipeline.cli.main"
        self._launch(name or command, ["-m", module, command], environment)

    def stage(self, name: str) -> ChildProcess:
        """A stage, running or not."""
        return self._child(name)

    def log_of(self, name: str) -> Path:
        """What a stage or server wrote."""
        return self.files.logs / f"{name}.log"

    def stop_stage(self, name: str, *, grace_s: float = STOP_GRACE_S) -> None:
        """Stop a stage: SIGTERM, and after a while SIGKILL."""
        self._child(name).stop(grace_s=grace_s)

    def stop(self) -> None:
        """Stop everything that runs: the stages first, then the servers."""
        names = [path.stem for path in sorted(self.files.directory.glob("*.pid"))]
        for name in sorted(names, key=lambda name: name == "bucket"):
            self._child(name).stop(grace_s=STOP_GRACE_S)
        grace_s = STOP_GRACE_S if self._node_count() == 1 else CLUSTER_GRACE_S
        for broker in self._brokers or ():
            broker.stop(grace_s=grace_s)
        for process in self._broker_processes().values():
            process.stop(grace_s=grace_s)

    def running(self) -> dict[str, int]:
        """What runs, with its process id."""
        children = {
            path.stem: self._child(path.stem) for path in self.files.directory.glob("*.pid")
        }
        children |= self._broker_processes()
        found = {name: child.process_id for name, child in sorted(children.items())}
        return {name: process.pid for name, process in found.items() if process}

    def _broker_processes(self) -> dict[str, ChildProcess]:
        folders = map(self._broker_directory, range(1, self._node_count() + 1))
        return {folder.name: ChildProcess(folder / "broker.pid") for folder in folders}

    def _node_count(self) -> int:
        return len(self._noted()["nodes"]) if self.exists else 1

    def catalog(self) -> Catalog:
        """The topics that its settings declare."""
        return load(self.files.settings).catalog()

    def admin(self) -> Connection:
        """The administrator's way to the broker."""
        return Connection(cluster=self.cluster, role=ADMIN)

    def _noted(self) -> dict[str, Any]:
        if not self.exists:
            raise Refused(f"there is no stack in {self.files.directory}: run `erasestream dev up`")
        return dict(json.loads(self._notes.read_text()))

    def _child(self, name: str) -> ChildProcess:
        # The same object while we live: only the parent can reap a child and know how it ended.
        if name not in self._started:
            self._started[name] = ChildProcess(self.files.directory / f"{name}.pid")
        return self._started[name]

    def _launch(
        self, name: str, arguments: list[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.files.logs.mkdir(exist_ok=True)
        self._child(name).start(
            [sys.executable, *arguments],
            output=self.log_of(name),
            attachment=self._attachment,
            environment=self.environment | dict(environment or {}),
        )

    def _wait(self, name: str, attempt: Callable[[], None]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._child(name).process_id is None:
                raise Refused(f"{name} ended instead of serving: see {self.log_of(name)}")
            with suppress(OSError):
                return attempt()
            time.sleep(POLL_S)
        raise Unavailable(f"{name} does not serve: see {self.log_of(name)}")

"""The embedded stack: a real Kafka with mutual TLS, a private bucket, and the keys of epochs.

All in one folder.  Several can run side by side: each has its own ports, certificates and data.
Everything is started and stopped by the process ids in the folder, so that another process can
find it.  Start an attached stack from a thread that lives as long as the stack does.
"""

import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

from erasestream.pipeline.devstack.kafka.java_launcher import HEAP_MB
from erasestream.pipeline.devstack.kafka.readiness import check_certificate, client_context
from erasestream.pipeline.devstack.private_folder import make_private
from erasestream.pipeline.devstack.stack_brokers import (
    START_TIMEOUT_S,
    STOP_GRACE_S,
)
from erasestream.pipeline.devstack.stack_files import (
    BUCKET,
    BUCKET_HOST,
    GATEWAY,
    GATEWAY_HOST,
    KEYS_HOST,
)
from erasestream.pipeline.devstack.stack_plan import StackPlan
from erasestream.pipeline.devstack.stack_view import StackView
from erasestream.pipeline.settings import KeySettings, LaneSettings, LifetimeSettings
from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, KEYS

DEFAULT_LANES: Mapping[Lane, LaneSettings] = {
    Lane("shop"): LaneSettings(),
    Lane("bulk"): LaneSettings(),
    Lane("web"): LaneSettings(gateway=True),
}


AUDIT = "audit"
AUDIT_EVERY_S = 2


def keys_name(replica: int) -> str:
    """Return the name of a replica's process; the first is 1."""
    return KEYS if replica == 1 else f"{KEYS}-{replica}"


class Stack(StackView):
    """One stack: created at its first start, and kept in its folder until that is deleted."""

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
        key_replicas: int = 1,
        key_times: Mapping[str, timedelta] = MappingProxyType({}),
    ) -> None:
        """Choose ports and write all files; nothing is started.

        `nodes` brokers, each with `heap_mb` of heap and these Java options.  Each broker of a
        cluster has a proxied listener; see `proxied_listeners`.  `key_times` are those of the
        section `keys` that are not the default.
        """
        lifetimes = lifetimes or LifetimeSettings()
        plan = StackPlan.choose(
            nodes=nodes,
            key_replicas=key_replicas,
            heap_mb=heap_mb,
            java_options=java_options,
            lifetimes=lifetimes,
        )
        configs = plan.broker_configs()
        self.files.create_identities(lanes)
        self.files.create_secrets()
        self.files.write_bucket_settings(host=BUCKET_HOST, port=plan.bucket_port)
        self.files.write_settings(
            bootstrap=tuple(config.bootstrap for config in configs),
            durability=configs[0].durability,
            endpoint=f"https://{BUCKET_HOST}:{plan.bucket_port}",
            keys=KeySettings.model_validate(
                {
                    "endpoints": plan.key_endpoints,
                    "listen_host": KEYS_HOST,
                    "listen_port": plan.key_ports[0],
                    **key_times,
                }
            ),
            gateway=(GATEWAY_HOST, plan.gateway_port),
            lanes=lanes,
            lifetimes=lifetimes,
            models=models or self._cache / "models",
            model=model,
        )
        plan.save(self._plan_file)

    def start_servers(self) -> None:
        """Start brokers, bucket and key service, and return once all are ready."""
        make_private(self.files.directory)
        self.start_bucket()
        replicas = range(1, len(self._plan().key_ports) + 1)
        for replica in replicas:
            self.launch_keys(replica)
        self._brokers.start(self._plan(), self._libs)
        for replica in replicas:
            self._wait_for_keys(replica)

    def start_bucket(self) -> None:
        """Start the bucket server and return once it is ready."""
        module = "erasestream.pipeline.devstack.gcs_emulator.server"
        arguments = ["-m", module, "--config", str(self.files.bucket_settings)]
        self._processes.launch(BUCKET, arguments, self.environment)
        self._wait_for_server(BUCKET, BUCKET_HOST, self._plan().bucket_port)

    def start_keys(self, replica: int = 1) -> None:
        """Start a replica of the key service and return once it is ready."""
        self.launch_keys(replica)
        self._wait_for_keys(replica)

    def launch_keys(self, replica: int, **environment: str) -> None:
        """Start a replica without waiting for it."""
        environment["ERASESTREAM_KEYS__LISTEN_PORT"] = f"{self._plan().key_ports[replica - 1]}"
        self.start_stage(KEYS, name=keys_name(replica), **environment)

    def _wait_for_keys(self, replica: int) -> None:
        port = self._plan().key_ports[replica - 1]
        self._wait_for_server(keys_name(replica), KEYS_HOST, port)

    def wait_for_gateway(self) -> None:
        """Return once the gateway answers."""
        self._wait_for_server(GATEWAY, GATEWAY_HOST, self._plan().gateway_port)

    def _wait_for_server(self, name: str, host: str, port: int) -> None:
        context = client_context(self.files.identities, ADMIN)
        self._processes.wait_until_ready(
            name, lambda: check_certificate(host, port, context), timeout_s=START_TIMEOUT_S
        )

    def start_stage(
        self, command: str, *arguments: str, name: str | None = None, **environment: str
    ) -> None:
        """Start a stage by its CLI command, without waiting for it.

        `name` distinguishes several of a kind; `environment` adds to its settings.
        """
        module = "erasestream.pipeline.cli.main"
        self._processes.launch(
            name or command, ["-m", module, command, *arguments], self.environment | environment
        )

    def start_audit(self) -> None:
        """Start the auditor, who cosigns the log of receipts as it grows."""
        self.start_stage("log", "cosign", "--every", f"{AUDIT_EVERY_S}", name=AUDIT)

    def stop_stage(self, name: str, *, grace_s: float = STOP_GRACE_S) -> None:
        """Stop a stage: SIGTERM, and SIGKILL after the grace."""
        self.stage(name).stop(grace_s=grace_s)

    def stop(self) -> None:
        """Stop all running processes: first the stages, then the servers."""
        children = self._processes.all()
        for name in sorted(children, key=lambda name: (name == BUCKET, name.startswith(KEYS))):
            children[name].stop(grace_s=STOP_GRACE_S)
        self._brokers.stop(self._node_count())

    def wipe(self) -> None:
        """Stop all processes and delete the folder: records, images, keys and certificates."""
        if not self.exists:
            raise Refused(f"there is no stack in {self.files.directory}")
        self.stop()
        shutil.rmtree(self.files.directory)

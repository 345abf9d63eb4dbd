"""The embedded stack: a real Kafka with mutual TLS and a private bucket, in one folder.

Several can run side by side: each has its own ports, certificates and data.  Everything is
started and stopped by the process ids in the folder, so that another process can find it.
Start an attached stack from a thread that lives as long as the stack does.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from erasestream.pipeline.devstack.kafka.java_launcher import HEAP_MB
from erasestream.pipeline.devstack.kafka.readiness import check_certificate, client_context
from erasestream.pipeline.devstack.private_folder import make_private
from erasestream.pipeline.devstack.stack_brokers import (
    START_TIMEOUT_S,
    STOP_GRACE_S,
)
from erasestream.pipeline.devstack.stack_files import BUCKET, BUCKET_HOST
from erasestream.pipeline.devstack.stack_plan import StackPlan
from erasestream.pipeline.devstack.stack_view import StackView
from erasestream.pipeline.settings import LaneSettings, LifetimeSettings
from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN

DEFAULT_LANES: Mapping[Lane, LaneSettings] = {
    Lane("shop"): LaneSettings(),
    Lane("bulk"): LaneSettings(),
}


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

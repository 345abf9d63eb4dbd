"""A real Kafka broker as a child process: KRaft, mutual TLS, default deny.

    broker = Broker(folder, identities, libs, config=single(port=..., ...))
    broker.start()      # formats the storage if it is new; returns when it is ready
    broker.stop()

In its folder: `server.properties`, `data/` (records in clear, until they expire),
`log/broker.log` (bounded; contains every denial of the authorizer), `log/broker.out`,
`broker.pid`.  Only its owner can read them.  Any process that has the folder can find and stop the
broker.
"""

import contextlib
import secrets
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess, ProcessId
from erasestream.pipeline.devstack.kafka.broker_config import BrokerConfig, properties, render
from erasestream.pipeline.devstack.kafka.java_launcher import HEAP_MB, JavaLauncher
from erasestream.pipeline.devstack.kafka.readiness import client_context, is_in_service
from erasestream.pipeline.devstack.kafka.storage_format import format_storage
from erasestream.pipeline.devstack.polling import poll_until
from erasestream.pipeline.devstack.private_folder import make_private
from erasestream.schemas.errors import MissingCertificate, NotReady, Refused

START_TIMEOUT_S = 180.0
STOP_GRACE_S = 20.0
_POLL_S = 0.1
_PORTS = range(16_384, 32_768)
"""Below those that systems, as they are installed, give to sockets that name no port."""


def free_ports(count: int) -> tuple[int, ...]:
    """Return different ports of the loopback interface that are unused at this moment.

    A broker takes them seconds later, and again after a restart: meanwhile no socket gets them
    that does not name them.
    """
    ports = list[int]()
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            port = secrets.choice(_PORTS)
            with contextlib.suppress(OSError):  # it is in use
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
                ports.append(port)
    return tuple(ports)


class Broker:
    """One node.  `identities` holds `ca.crt` and what `issue_broker(name)` created."""

    def __init__(
        self,
        directory: Path,
        identities: Path,
        libs: Path,
        *,
        config: BrokerConfig,
        name: str = "broker",
        attachment: Attachment = Attachment.ATTACHED,
        heap_mb: int = HEAP_MB,
        java_options: Sequence[str] = (),
    ) -> None:
        """Describe a broker.  `java_options`: more Java options, for the broker only."""
        self.config = config
        self._directory = directory.resolve()
        self._identities = identities.resolve()
        self._name = name
        self._attachment = attachment
        self._java = JavaLauncher(libs.resolve(), log=self.log, heap_mb=heap_mb)
        self._java_options = java_options
        self._process = ChildProcess(self._directory / "broker.pid")

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return self.config.bootstrap

    @property
    def log(self) -> Path:
        """The broker's log; denials are lines with `Denied`."""
        return self._directory / "log" / "broker.log"

    @property
    def data(self) -> Path:
        """The folder with its records."""
        return self._directory / "data"

    @property
    def process_id(self) -> ProcessId | None:
        """The broker's process, if it is running."""
        return self._process.process_id

    def start(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it, and return when it is ready; see `launch` and `wait_until_ready`.

        A broker that does not become ready is killed.
        """
        self.launch()
        try:
            self.wait_until_ready(timeout_s=timeout_s)
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Format the storage if it is new, and start the process without waiting for it.

        The nodes of a cluster need each other: launch all, then wait for each.
        Raises `Refused` if it is running already, or if Java or a certificate is missing.
        """
        if running := self.process_id:
            raise Refused(f"the broker runs already as process {running.pid}: stop it first")
        keystore, truststore = self._identities / f"{self._name}.pem", self._identities / "ca.crt"
        for path in (keystore, truststore):
            if not path.is_file():
                raise MissingCertificate(f"no file {path}")
        settings = self._directory / "server.properties"
        command = self._java.command("kafka.Kafka", str(settings), options=self._java_options)
        make_private(self._directory)
        make_private(self.log.parent)
        entries = properties(self.config, data=self.data, keystore=keystore, truststore=truststore)
        settings.write_text(render(entries))
        if not (self.data / "meta.properties").exists():
            format_storage(self._java, settings, self.config)
        self._process.start(
            command,
            output=self.log.with_suffix(".out"),
            attachment=self._attachment,
            environment=self._java.environment,
        )

    def wait_until_ready(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the broker is in service.

        Raises `Refused` if it ended or if its certificate does not name its host, `Unavailable`
        after the timeout; the error names the log.
        """
        if not poll_until(self.is_ready, timeout_s=timeout_s, poll_s=_POLL_S):
            raise NotReady(f"the broker is not ready after {timeout_s:g} s: see {self.log}")

    def is_ready(self) -> bool:
        """Return whether the broker is in service.

        Raises `Refused` if it has ended or if its certificate does not name its host.
        """
        if self.process_id is None:
            code = self._process.exit_code
            raise Refused(f"the broker ended with {code} during start: see {self.log}")
        context = client_context(self._identities, self._name)
        return is_in_service(self.config, self._identities, self._name, context)

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Shut it down cleanly, and kill it after the grace.  Idempotent."""
        self._process.stop(grace_s=grace_s)

    def kill(self) -> None:
        """Kill it as a power cut would, and return when it has ended."""
        self._process.kill()

    def pause(self) -> None:
        """Suspend it: connections stay open, and requests are not answered."""
        self._process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a paused broker."""
        self._process.send(signal.SIGCONT)

"""A real Kafka broker as a child process: KRaft, mutual TLS, default deny.

    broker = Broker(folder, identities, libs, config=single(port=..., ...))
    broker.start()      # formats the storage if it is new; returns when it serves
    broker.stop()

In its folder: `server.properties`, `data/` (records in clear for their hours), `log/broker.log`
(bounded; every denial of the authorizer is in it), `log/broker.out`, `broker.pid`.  Any process
may stop it or ask how it is, by the same folder.
"""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess, ProcessId
from erasestream.pipeline.devstack.kafka.broker_config import BrokerConfig, properties, render
from erasestream.pipeline.devstack.kafka.distribution import FILES, class_archive, require_java
from erasestream.pipeline.devstack.kafka.readiness import (
    brokers_in_service,
    check_certificate,
    client_context,
)
from erasestream.schemas.errors import (
    CertificateRefused,
    MissingCertificate,
    Refused,
    Unavailable,
)

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 20.0
_FORMAT_TIMEOUT_S = 60.0
_POLL_S = 0.1

HEAP_MB = 768
DIRECT_MB = 256
"""Bounds of the Java heap and of buffers beside it: the whole demo has 4 GB."""


def free_ports(count: int) -> tuple[int, ...]:
    """Different ports on the loopback interface that nobody listens on at this moment."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in sockets)


class Broker:
    """One node.  `identities` holds `ca.crt` and what `Authority.issue_broker(name)` made."""

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
        """`java_options`: more of Java's own, for the broker itself."""
        self.config = config
        self._directory = directory.resolve()
        self._identities = identities.resolve()
        self._libs = libs.resolve()
        self._name = name
        self._attachment = attachment
        self._heap_mb = heap_mb
        self._java_options = java_options
        self._process = ChildProcess(self._directory / "broker.pid")

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return self.config.bootstrap

    @property
    def log(self) -> Path:
        """What the broker says; denials are lines with `Denied`."""
        return self._directory / "log" / "broker.log"

    @property
    def data(self) -> Path:
        """Where its records lie."""
        return self._directory / "data"

    @property
    def process_id(self) -> ProcessId | None:
        """The broker's process, if it runs."""
        return self._process.process_id

    def start(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it, and return when it serves; see `launch` and `wait_until_ready`.

        One that does not come to serve is ended.
        """
        self.launch()
        try:
            self.wait_until_ready(timeout_s=timeout_s)
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Format the storage if it is new, and start the process; it does not serve yet.

        The nodes of a cluster need each other: launch all, then wait for each.
        Raises `Refused` if it runs already, or if Java or a certificate is missing.
        """
        if running := self.process_id:
            raise Refused(f"the broker runs already as process {running.pid}: stop it first")
        keystore = self._identities / f"{self._name}.pem"
        for path in (keystore, self._identities / "ca.crt"):
            if not path.is_file():
                raise MissingCertificate(f"no file {path}")
        java = require_java()
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = self._directory / "server.properties"
        truststore = self._identities / "ca.crt"
        entries = properties(self.config, data=self.data, keystore=keystore, truststore=truststore)
        settings.write_text(render(entries))
        if not (self.data / "meta.properties").exists():
            self._format(java, settings)
        self._process.start(
            [*self._java(java), *self._java_options, "kafka.Kafka", str(settings)],
            output=self.log.with_suffix(".out"),
            attachment=self._attachment,
            environment=_environment(),
        )

    def wait_until_ready(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the broker serves.

        Raises `Refused` if it ended instead or if its certificate does not name its host,
        `Unavailable` if it does not serve in time; the error names the log.
        """
        context = client_context(self._identities, self._name)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process_id is None:
                code = self._process.exit_code
                raise Refused(f"the broker ended with {code} instead of serving: see {self.log}")
            if self._serves(context):
                return
            time.sleep(_POLL_S)
        raise Unavailable(f"the broker does not serve after {timeout_s:g} s: see {self.log}")

    def _serves(self, context: ssl.SSLContext) -> bool:
        host, port = self.config.host, self.config.port
        try:
            # Opens first; with a certificate that its own peers refuse, the other never does.
            check_certificate(host, self.config.controller.port, context)
            return self.config.node_id in brokers_in_service(host, port, context)
        except ssl.SSLCertVerificationError as error:
            detail = f"the broker's own certificate: {error.verify_message}"
            raise CertificateRefused(detail) from error
        except OSError:
            return False

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """End it cleanly, or by force when it takes too long; nothing if it does not run."""
        self._process.stop(grace_s=grace_s)

    def kill(self) -> None:
        """End it as a power cut would, and return when it has ended."""
        self._process.kill()

    def pause(self) -> None:
        """Stop it where it stands: connections stay open, and nothing answers."""
        self._process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused broker go on."""
        self._process.send(signal.SIGCONT)

    def _format(self, java: str, settings: Path) -> None:
        quorum = ["--standalone"]
        if len(self.config.voters) > 1:
            voters = (f"{v.node_id}@{v.address}:{v.directory_id}" for v in self.config.voters)
            quorum = ["--initial-controllers", ",".join(voters)]
        # Left half formatted by a kill: what is there was never served.
        command = [*self._java(java), "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool"]
        command += ["format", "--ignore-formatted", "-t", self.config.cluster_id]
        command += ["-c", str(settings), *quorum]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                check=False,
                env=_environment(),
                timeout=_FORMAT_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable("formatting the broker's storage took too long") from error
        if done.returncode != 0:
            self.log.with_suffix(".out").write_bytes(done.stdout + done.stderr)
            raise Refused(
                f"the broker's storage can not be formatted: see {self.log.with_suffix('.out')}"
            )

    def _java(self, java: str) -> list[str]:
        archive = class_archive(self._libs)
        return [
            java,
            f"-Xmx{self._heap_mb}m",
            f"-XX:MaxDirectMemorySize={DIRECT_MB}m",
            # Threads would each keep a buffer beside the heap as large as their largest record.
            "-Djdk.nio.maxCachedBufferSize=262144",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            # No dump of memory, which holds pixels, and nothing in /tmp.
            "-XX:-CreateCoredumpOnCrash",
            f"-XX:ErrorFile={self.log.parent}/java-error.log",
            "-XX:-UsePerfData",
            "-Djava.awt.headless=true",
            *([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []),
            f"-Dlog4j2.configurationFile={FILES / 'log4j2.properties'}",
            f"-Derasestream.log={self.log}",
            "-cp",
            f"{self._libs}/*",
        ]


def _environment() -> dict[str, str]:
    """What Java needs of ours; options of other people's Java programs stay out."""
    kept = ("PATH", "JAVA_HOME", "HOME", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LANG": "C.UTF-8"}

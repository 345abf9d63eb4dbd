"""Java command lines for Kafka's programs: bounded memory, nothing in `/tmp`, no dumps.

`-XX:+ExitOnOutOfMemoryError`, which many guides advise, is left out on purpose.  Decompressing a
batch, Kafka allocates what a record claims to hold before it reads it: with that option, any
client that may write to a topic ends the broker with one request of 89 bytes.

TLS is Java's own.  On Linux on x86-64 its algorithms are native code, those of Amazon's Corretto
Crypto Provider (`docs/decisions/0051-native-cryptography.md`).
"""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from erasestream.pipeline.devstack.kafka.distribution import FILES, class_archive, require_java
from erasestream.pipeline.devstack.private_folder import MASK
from erasestream.schemas.errors import NotReady, Refused

HEAP_MB = 768
DIRECT_MB = 256
"""Limits of the Java heap and of buffers outside it: the whole demo has 4 GB."""

_CURVES = "secp256r1,secp384r1,secp521r1"
"""The curves of key exchange that are native: clients offer X25519 as well, which is not."""

JAVAS_CRYPTOGRAPHY = "-Djava.security.properties="
"""Option to leave native cryptography out: to load it takes 0.4 s of CPU time."""

_FIRST_COMPILER = ("-XX:TieredStopAtLevel=1",)
_SECOND_COMPILER_LATE = (
    "-XX:Tier4InvocationThreshold=150000",
    "-XX:Tier4MinInvocationThreshold=18000",
    "-XX:Tier4CompileThreshold=450000",
    "-XX:Tier4BackEdgeThreshold=1200000",
    "-XX:CompileCommand=quiet",
    "-XX:CompileCommand=CompileThresholdScaling,com.sun.crypto.provider.*::*,0.002",
    "-XX:CompileCommand=CompileThresholdScaling,java.util.zip.*::*,0.002",
)
"""Java's second compiler, which would take more than it gives, compiles encryption and checksums,
and of the rest what runs thirty times as often as it would wait for.  With neither it nor native
cryptography, writing and reading 300 MB takes ten times as much."""

IS_NATIVE = (sys.platform, platform.machine()) == ("linux", "x86_64")
"""Whether there is native cryptography for this machine."""

SHORT_LIVED = _FIRST_COMPILER if IS_NATIVE else _SECOND_COMPILER_LATE
"""Options for a broker that lives for minutes."""

_ENVIRONMENT = ("PATH", "JAVA_HOME", "HOME", "TMPDIR")


class JavaLauncher:
    """Command lines of the programs in Kafka's jars."""

    def __init__(self, libs: Path, *, log: Path, heap_mb: int = HEAP_MB) -> None:
        """Create a launcher.  `log`: the log file; its folder takes Java's crash reports."""
        self._libs = libs
        self._log = log
        self._heap_mb = heap_mb

    @property
    def environment(self) -> dict[str, str]:
        """The variables that Java needs; options meant for other Java programs are left out."""
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        return kept | {"LANG": "C.UTF-8"}

    def command(self, main_class: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
        """Return the command that runs a class, with more Java options.

        Raises `Refused` if Java is missing or too old.
        """
        archive = class_archive(self._libs)
        return [
            require_java(),
            f"-Xmx{self._heap_mb}m",
            f"-XX:MaxDirectMemorySize={DIRECT_MB}m",
            # Otherwise each thread keeps a direct buffer as large as its largest record.
            "-Djdk.nio.maxCachedBufferSize=262144",
            "-XX:+UseSerialGC",
            # No dump of memory, which holds pixels, and nothing in /tmp.
            "-XX:-CreateCoredumpOnCrash",
            f"-XX:ErrorFile={self._log.parent}/java-error.log",
            "-XX:-UsePerfData",
            "-Djava.awt.headless=true",
            *([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []),
            f"-Dlog4j2.configurationFile={FILES / 'log4j2.properties'}",
            f"-Derasestream.log={self._log}",
            f"-Djava.security.properties={FILES / 'providers.security'}",
            f"-Djdk.tls.namedGroups={_CURVES}",
            f"-Dcom.amazon.corretto.crypto.provider.tmpdir={self._log.parent}",
            "-cp",
            f"{self._libs}/*",
            *options,
            main_class,
            *arguments,
        ]

    def run_tool(self, main_class: str, *arguments: str, purpose: str, timeout_s: float) -> None:
        """Run a program that ends by itself.

        Raises `Refused` naming the file with its output if it fails, `Unavailable` if it takes
        too long; both say the `purpose`.
        """
        options = [*_FIRST_COMPILER, JAVAS_CRYPTOGRAPHY]
        command = self.command(main_class, *arguments, options=options)
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                check=False,
                env=self.environment,
                timeout=timeout_s,
                umask=MASK,
            )
        except subprocess.TimeoutExpired as error:
            raise NotReady(f"{purpose} took longer than {timeout_s:g} s") from error
        if done.returncode != 0:
            output = self._log.with_suffix(".out")
            output.write_bytes(done.stdout + done.stderr)
            raise Refused(f"{purpose} failed: see {output}")

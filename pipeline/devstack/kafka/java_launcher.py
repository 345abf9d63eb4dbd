"""Java command lines for Kafka's programs: bounded memory, nothing in `/tmp`, no dumps."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from erasestream.pipeline.devstack.kafka.distribution import FILES, class_archive, require_java
from erasestream.schemas.errors import Refused, Unavailable

HEAP_MB = 768
DIRECT_MB = 256
"""Limits of the Java heap and of buffers outside it: the whole demo has 4 GB."""

FIRST_COMPILER_ONLY = ("-XX:TieredStopAtLevel=1",)
"""Options for a program that lives for minutes: Java's second compiler would take more than it
gives.  A broker starts with 6.4 s of CPU instead of 8.2, and with the stages of a pipeline at rest
takes 9 % of a core in the next 20 s instead of 22 % (measured on two cores)."""

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
            "-XX:+ExitOnOutOfMemoryError",
            # No dump of memory, which holds pixels, and nothing in /tmp.
            "-XX:-CreateCoredumpOnCrash",
            f"-XX:ErrorFile={self._log.parent}/java-error.log",
            "-XX:-UsePerfData",
            "-Djava.awt.headless=true",
            *([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []),
            f"-Dlog4j2.configurationFile={FILES / 'log4j2.properties'}",
            f"-Derasestream.log={self._log}",
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
        command = self.command(main_class, *arguments, options=FIRST_COMPILER_ONLY)
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, env=self.environment, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{purpose} took longer than {timeout_s:g} s") from error
        if done.returncode != 0:
            output = self._log.with_suffix(".out")
            output.write_bytes(done.stdout + done.stderr)
            raise Refused(f"{purpose} failed: see {output}")

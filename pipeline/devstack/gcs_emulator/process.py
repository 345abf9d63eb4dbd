"""A local bucket server as a child process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from erasestream.pipeline.devstack.gcs_emulator.faults import Fault, switch_faults
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.pipeline.devstack.polling import poll_until
from erasestream.pipeline.devstack.private_folder import MASK
from erasestream.schemas.errors import Refused

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02


class BucketProcess:
    """A running server."""

    def __init__(
        self, process: subprocess.Popen[bytes], endpoint: str, log: Path, faults: Path | None
    ) -> None:
        self._process = process
        self._faults = faults
        self.endpoint = endpoint
        self.log = log

    @classmethod
    def start(cls, settings: BucketSettings, folder: Path) -> Self:
        """Start a server and wait until it is ready; its settings and its log go to `folder`.

        Raises `Refused` with the last line of its log if it does not start.
        """
        folder.mkdir(parents=True, exist_ok=True)
        config, log = folder / "bucket.json", folder / "bucket.log"
        config.write_text(settings.model_dump_json(indent=1))
        settings.port_file.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "erasestream.pipeline.devstack.gcs_emulator.server",
            "--config",
        ]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*command, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                umask=MASK,
            )
        poll_until(
            lambda: settings.port_file.exists() or process.poll() is not None,
            timeout_s=READY_TIMEOUT_S,
            poll_s=POLL_S,
        )
        if not settings.port_file.exists():
            process.kill()
            process.wait()
            raise Refused(f"the local bucket did not start: {_last_line(log)}")
        endpoint = f"https://{settings.host}:{settings.port_file.read_text()}"
        return cls(process, endpoint, log, settings.faults)

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether the server is running."""
        return self._process.poll() is None

    @contextmanager
    def faults(self, *faults: Fault) -> Iterator[None]:
        """Switch faults on, and off at the end.  Raises `Refused` if the settings name no file."""
        if self._faults is None:
            raise Refused("the settings of the local bucket name no file for faults")
        switch_faults(self._faults, faults)
        try:
            yield
        finally:
            switch_faults(self._faults, ())

    def stop(self) -> int:
        """Stop the server (SIGTERM, after 10 s SIGKILL) and return its exit status."""
        if self.is_running():
            self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def kill(self) -> None:
        """Kill the server (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "its log is empty"

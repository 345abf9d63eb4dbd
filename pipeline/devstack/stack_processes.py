"""The Python processes of a stack, each known by a pid file in the stack's folder."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess
from erasestream.pipeline.devstack.polling import poll_until
from erasestream.pipeline.devstack.private_folder import make_private
from erasestream.schemas.errors import NotReady, Refused


class StackProcesses:
    """Starts processes by name, and finds those that another process started."""

    def __init__(self, directory: Path, *, logs: Path, attachment: Attachment) -> None:
        self._directory = directory
        self._logs = logs
        self._attachment = attachment
        self._children: dict[str, ChildProcess] = {}

    def child(self, name: str) -> ChildProcess:
        """Return a process, running or not.

        The same object each time: only the parent can reap a child and read its exit code.
        """
        if name not in self._children:
            self._children[name] = ChildProcess(self._directory / f"{name}.pid")
        return self._children[name]

    def all(self) -> dict[str, ChildProcess]:
        """Return the processes that have a pid file, by name and in its order."""
        names = sorted(path.stem for path in self._directory.glob("*.pid"))
        return {name: self.child(name) for name in names}

    def log_of(self, name: str) -> Path:
        """Return the file with the output of a process."""
        return self._logs / f"{name}.log"

    def launch(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start Python with these arguments.  Raises `Refused` if the process is running."""
        make_private(self._logs)
        self.child(name).start(
            [sys.executable, *arguments],
            output=self.log_of(name),
            attachment=self._attachment,
            environment=environment,
        )

    def wait_until_ready(self, name: str, probe: Callable[[], None], *, timeout_s: float) -> None:
        """Return once the probe raises no `OSError`.

        Raises `Refused` if the process ended, `Unavailable` after the timeout.
        """

        def is_ready() -> bool:
            if self.child(name).process_id is None:
                raise Refused(f"{name} ended before it was ready: see {self.log_of(name)}")
            with suppress(OSError):
                probe()
                return True
            return False

        if not poll_until(is_ready, timeout_s=timeout_s):
            raise NotReady(f"{name} is not ready after {timeout_s:g} s: see {self.log_of(name)}")

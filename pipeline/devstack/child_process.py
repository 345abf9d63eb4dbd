"""A child process that can be found again, and stopped, by another process.

Who it is stands in a pid file: number, start time and boot.  A number alone may be somebody
else's by now; with the other two it is not, and the signal goes through a pidfd, so that it
can not become somebody else's in between.

Linux only, as is all of the embedded stack.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from erasestream.schemas.errors import Refused

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KILLED_WITHIN_S = 60.0
"""How long the kernel may take to end a process that was killed; over ten on a busy machine."""


class Attachment(StrEnum):
    """What becomes of a child when its parent ends."""

    ATTACHED = "attached"
    """It is killed.  Precisely: when the *thread* that started it ends, so start it from a
    thread that stays (the main thread, or one that lives as long as the child)."""
    DETACHED = "detached"
    """It goes on, in a session of its own, until somebody stops it."""


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """One process, for as long as the machine runs and after."""

    pid: int
    started: str
    boot: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The process that has this number now; None if there is none, or only its remains."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # proc(5): the name, in parentheses, may hold anything; state is the first field after.
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        return cls(pid=pid, started=fields[19], boot=_BOOT_ID.read_text().strip())


class ChildProcess:
    """A process known by its pid file, whether this process started it or another did."""

    def __init__(self, pid_file: Path) -> None:
        self._pid_file = pid_file
        self._child: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str],
        *,
        output: Path,
        attachment: Attachment,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it with no input and its output in a file.  Raises `Refused` if it runs."""
        if running := self.process_id:
            raise Refused(f"process {running.pid} runs already: stop it first")
        if attachment is Attachment.ATTACHED:
            command = [*_dying_with_parent(), *command]
        with output.open("wb") as file:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        found = ProcessId.of(self._child.pid)
        if found is not None:
            fresh = self._pid_file.with_suffix(".new")
            fresh.write_text(json.dumps(vars(found)))
            fresh.replace(self._pid_file)

    @property
    def process_id(self) -> ProcessId | None:
        """The process, if it runs."""
        try:
            noted = ProcessId(**json.loads(self._pid_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return noted if ProcessId.of(noted.pid) == noted else None

    @property
    def exit_code(self) -> int | None:
        """How it ended (minus the signal's number for a signal), if this process started it."""
        return self._child.poll() if self._child else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        with self._opened() as descriptor:
            if descriptor is not None:
                signal.pidfd_send_signal(descriptor, number)

    def stop(self, *, grace_s: float) -> None:
        """Ask it to end, wait, and kill it if it has not; nothing if it does not run."""
        self._end(signal.SIGTERM, signal.SIGCONT, wait_s=grace_s)
        self.kill()

    def kill(self) -> None:
        """End it at once, and wait until it has ended."""
        if not self._end(signal.SIGKILL, wait_s=_KILLED_WITHIN_S):
            raise Refused(f"the process of {self._pid_file} can not be killed")
        self._pid_file.unlink(missing_ok=True)

    def _end(self, *signals: signal.Signals, wait_s: float) -> bool:
        """Whether it has ended, at last."""
        with self._opened() as descriptor:
            if descriptor is not None:
                for number in signals:
                    signal.pidfd_send_signal(descriptor, number)
                if not _ended(descriptor, wait_s):
                    return False
        if self._child:
            self._child.wait()
        return True

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """A pidfd of the process; it can not become another's while this is open."""
        noted = self.process_id
        try:
            descriptor = os.pidfd_open(noted.pid) if noted else None
        except ProcessLookupError:
            descriptor = None
        if descriptor is None:
            yield None
            return
        try:
            # Between reading and opening the number may have changed hands; now it can not.
            yield descriptor if self.process_id == noted else None
        finally:
            os.close(descriptor)


def _ended(descriptor: int, wait_s: float) -> bool:
    """Whether the process of this pidfd ends within that time (pidfd_open(2): readable)."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def _dying_with_parent() -> list[str]:
    # Set by another program between fork and exec: Python code there is not safe with threads.
    # A parent that was killed before it was set is noticed by the shell: it has another then.
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Refused("there is no setpriv: install the package util-linux")
    started_by_us = '[ "$PPID" = "$0" ] && exec "$@"'
    return [setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", started_by_us, str(os.getpid())]

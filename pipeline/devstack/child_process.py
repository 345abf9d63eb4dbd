"""A child process that another process can find and stop.

Rules:

* A pid file identifies the process by its number, start time and boot.  The number alone may
  belong to another process by now; the three together do not.
* Signals go through a pidfd, so that the number cannot be reused between check and signal.
* An attached child ends with its parent.
* Its files are readable by their owner only, and it leaves no core dump: its memory may hold
  pixels.

Linux only, like all of the embedded stack.
"""

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from erasestream.pipeline.devstack.private_folder import MASK
from erasestream.schemas.errors import Refused

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KILL_TIMEOUT_S = 60.0
"""Longest time the kernel needs to end a killed process; over ten seconds on a busy machine."""


class Attachment(StrEnum):
    """Fate of a child when its parent ends."""

    ATTACHED = "attached"
    """The child is killed.  Precisely: when the *thread* that started it ends, so start it from
    a thread that lives as long as the child (such as the main thread)."""
    DETACHED = "detached"
    """The child continues, in a session of its own, until it is stopped."""


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """Identity of one process, unique across boots."""

    pid: int
    started: float
    """Seconds after the boot, to 10 ms: a step of the clock does not change it."""
    boot: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """Return the running process with this number; None if there is none, or a zombie."""
        try:
            process = psutil.Process(pid)
            if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
                return None
            started = round(process.create_time() - psutil.boot_time(), 2)
        except psutil.NoSuchProcess:
            return None
        return cls(pid=pid, started=started, boot=_BOOT_ID.read_text().strip())


class ChildProcess:
    """A process known by its pid file, whichever process started it."""

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
        """Start it with no input and its output in a file.  Raises `Refused` if it is running."""
        if running := self.process_id:
            raise Refused(f"process {running.pid} runs already: stop it first")
        wrapped = [*_without_core_dump(), *command]
        if attachment is Attachment.ATTACHED:
            wrapped = [*_killed_with_parent(), *wrapped]
        with open(output, "wb", opener=_private) as file:
            self._child = subprocess.Popen(
                wrapped,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                umask=MASK,
            )
        started = ProcessId.of(self._child.pid)
        if started is not None:
            draft = self._pid_file.with_suffix(".new")
            draft.write_text(json.dumps(vars(started)))
            draft.replace(self._pid_file)

    @property
    def process_id(self) -> ProcessId | None:
        """The process, if it is running."""
        try:
            recorded = ProcessId(**json.loads(self._pid_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return recorded if ProcessId.of(recorded.pid) == recorded else None

    @property
    def exit_code(self) -> int | None:
        """The exit code (minus the number of a signal), if this process started it."""
        return self._child.poll() if self._child else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is running."""
        with self._opened() as descriptor:
            if descriptor is not None:
                signal.pidfd_send_signal(descriptor, number)

    def stop(self, *, grace_s: float) -> None:
        """Terminate it, wait, and kill it if it is still running.  Idempotent."""
        self._end(signal.SIGTERM, signal.SIGCONT, wait_s=grace_s)
        self.kill()

    def kill(self) -> None:
        """Kill it, and return once it has ended.  Idempotent."""
        if not self._end(signal.SIGKILL, wait_s=_KILL_TIMEOUT_S):
            raise Refused(f"the process of {self._pid_file} cannot be killed: end it by hand")
        self._pid_file.unlink(missing_ok=True)

    def _end(self, *signals: signal.Signals, wait_s: float) -> bool:
        """Send signals, wait, and return whether it has ended."""
        with self._opened() as descriptor:
            if descriptor is not None:
                for number in signals:
                    signal.pidfd_send_signal(descriptor, number)
                if not _wait_until_ended(descriptor, wait_s):
                    return False
        if self._child:
            self._child.wait()
        return True

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """Open a pidfd of the process: its number is not reused while this is open."""
        recorded = self.process_id
        try:
            descriptor = os.pidfd_open(recorded.pid) if recorded else None
        except ProcessLookupError:
            descriptor = None
        if descriptor is None:
            yield None
            return
        try:
            # The number may have been reused between the check and the open, but not from here on.
            yield descriptor if self.process_id == recorded else None
        finally:
            os.close(descriptor)


def _wait_until_ended(descriptor: int, wait_s: float) -> bool:
    """Return whether the process of this pidfd ends in time (pidfd_open(2): readable)."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _killed_with_parent() -> list[str]:
    # Another program sets the signal between fork and exec: Python code is not safe there with
    # threads.  If the parent is killed before that, the shell notices that its parent changed.
    started_by_us = '[ "$PPID" = "$0" ] && exec "$@"'
    shell = ["/bin/sh", "-c", started_by_us, str(os.getpid())]
    return [_util_linux("setpriv"), "--pdeathsig", "KILL", "--", *shell]


def _without_core_dump() -> list[str]:
    # One byte, unless our own limit is 0: of 0 the kernel takes no notice where it pipes the dump
    # to a program, while it dumps nothing for 1 either way (fs/coredump.c).
    _, highest = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 0 if highest == 0 else 1
    return [_util_linux("prlimit"), f"--core={limit}:{limit}", "--"]


def _util_linux(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise Refused(f"{program} is missing: install the package util-linux")
    return found

"""A child that another process can find and stop; a process that reuses its number is not hit."""

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess, ProcessId
from erasestream.schemas.errors import Refused
from tests.flow.waiting import eventually

STUBBORN = "import signal,time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ChildProcess]:
    created = ChildProcess(tmp_path / "pid")
    yield created
    created.kill()


def start(child: ChildProcess, tmp_path: Path, *command: str) -> ProcessId:
    child.start(command, output=tmp_path / "out", attachment=Attachment.DETACHED)
    found = child.process_id
    assert found is not None
    return found


def test_a_child_leaves_nothing_that_others_can_read(child: ChildProcess, tmp_path: Path) -> None:
    """Its files are private whatever our own umask, and no core dump of it is written."""
    program = f"echo x | tee {tmp_path}/made; mkdir {tmp_path}/folder; exec sleep 60"
    running = start(child, tmp_path, "/bin/sh", "-c", program)
    eventually("it has written", (tmp_path / "folder").exists)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert (modes["made"], modes["out"], modes["folder"]) == (0o600, 0o600, 0o700)
    # The kernel writes no dump of at most one byte, not even to a program (fs/coredump.c).
    assert resource.prlimit(running.pid, resource.RLIMIT_CORE) == (1, 1)


def test_a_process_without_core_dumps_starts_children(tmp_path: Path) -> None:
    """As every command of ours is: it may not give a child more than it has."""
    program = """
import pathlib, sys
from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess
from erasestream.pipeline.runtime.memory_protection import forbid_core_dumps
forbid_core_dumps()
folder = pathlib.Path(sys.argv[1])
child = ChildProcess(folder / "pid")
child.start(["sleep", "600"], output=folder / "out", attachment=Attachment.DETACHED)
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)
    child = ChildProcess(tmp_path / "pid")
    try:
        eventually("it runs", lambda: command_of(child) == b"sleep")
        running = child.process_id
        assert running
        assert resource.prlimit(running.pid, resource.RLIMIT_CORE) == (0, 0)
    finally:
        child.kill()


def command_of(child: ChildProcess) -> bytes:
    running = child.process_id
    assert running
    return Path(f"/proc/{running.pid}/cmdline").read_bytes().partition(b"\0")[0]


def test_another_object_finds_and_stops_the_process(child: ChildProcess, tmp_path: Path) -> None:
    running = start(child, tmp_path, "sleep", "60")
    other = ChildProcess(tmp_path / "pid")
    assert other.process_id == running
    other.stop(grace_s=10)
    assert other.process_id is None
    assert child.exit_code == -15
    assert not (tmp_path / "pid").exists()


def test_a_process_that_reuses_the_number_is_neither_found_nor_ended(
    child: ChildProcess, tmp_path: Path
) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            found = ProcessId.of(stranger.pid)
            assert found is not None
            recorded = {**vars(found), "started": found.started + 0.01}
            (tmp_path / "pid").write_text(json.dumps(recorded))
            assert child.process_id is None
            child.stop(grace_s=1)
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.parametrize("content", ["", "{}", "123", "[]"])
def test_a_damaged_pid_file_names_no_process(
    child: ChildProcess, tmp_path: Path, content: str
) -> None:
    (tmp_path / "pid").write_text(content)
    assert child.process_id is None
    child.stop(grace_s=1)


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(
    child: ChildProcess, tmp_path: Path
) -> None:
    start(child, tmp_path, sys.executable, "-c", STUBBORN + "; time.sleep(60)")
    eventually("it runs", (tmp_path / "out").read_text)
    child.stop(grace_s=0.2)
    assert child.process_id is None
    assert child.exit_code == -9


def test_a_second_start_is_refused(child: ChildProcess, tmp_path: Path) -> None:
    start(child, tmp_path, "sleep", "60")
    with pytest.raises(Refused, match="runs already"):
        start(child, tmp_path, "sleep", "60")


def test_the_exit_code_of_a_process_that_ended_is_known(
    child: ChildProcess, tmp_path: Path
) -> None:
    child.start(["false"], output=tmp_path / "out", attachment=Attachment.DETACHED)
    eventually("it has ended", lambda: child.exit_code is not None)
    assert child.exit_code == 1
    assert child.process_id is None


def test_the_running_process_is_found() -> None:
    assert ProcessId.of(os.getpid()) == ProcessId.of(os.getpid()) is not None


def test_an_attached_child_ends_if_its_parent_is_killed_while_starting_it(tmp_path: Path) -> None:
    setpriv = tmp_path / "setpriv"
    setpriv.write_text('#!/bin/sh\nsleep 1\nexec /usr/bin/setpriv "$@"\n')
    setpriv.chmod(0o755)
    program = """
import os, pathlib, sys
from erasestream.pipeline.devstack.child_process import Attachment, ChildProcess
folder = pathlib.Path(sys.argv[1])
child = ChildProcess(folder / "pid")
child.start(["sleep", "600"], output=folder / "out", attachment=Attachment.ATTACHED)
os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-c", program, tmp_path], check=False, env=environment)
    child = ChildProcess(tmp_path / "pid")
    try:
        eventually("it ends with its parent", lambda: child.process_id is None)
    finally:
        child.kill()

"""A child that another process can find and stop, and never a stranger with its number."""

import json
import os
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
    """One that is ended, whatever the test does."""
    made = ChildProcess(tmp_path / "pid")
    yield made
    made.kill()


def start(child: ChildProcess, tmp_path: Path, *command: str) -> ProcessId:
    """Start it detached."""
    child.start(command, output=tmp_path / "out", attachment=Attachment.DETACHED)
    found = child.process_id
    assert found is not None
    return found


def test_found_and_stopped_by_another(child: ChildProcess, tmp_path: Path) -> None:
    """Another object over the same file finds the process and ends it."""
    running = start(child, tmp_path, "sleep", "60")
    other = ChildProcess(tmp_path / "pid")
    assert other.process_id == running
    other.stop(grace_s=10)
    assert other.process_id is None
    assert child.exit_code == -15
    assert not (tmp_path / "pid").exists()


def test_reused_number(child: ChildProcess, tmp_path: Path) -> None:
    """A process that merely has the number of ours is neither found nor ended."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            found = ProcessId.of(stranger.pid)
            assert found is not None
            noted = {**vars(found), "started": "1"}
            (tmp_path / "pid").write_text(json.dumps(noted))
            assert child.process_id is None
            child.stop(grace_s=1)
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.parametrize("content", ["", "{}", "123", "[]"])
def test_damaged_pid_file(child: ChildProcess, tmp_path: Path, content: str) -> None:
    """A pid file that says nothing names nobody."""
    (tmp_path / "pid").write_text(content)
    assert child.process_id is None
    child.stop(grace_s=1)


def test_stubborn(child: ChildProcess, tmp_path: Path) -> None:
    """Who ignores the request to end is killed after the grace."""
    start(child, tmp_path, sys.executable, "-c", STUBBORN + "; time.sleep(60)")
    eventually("it runs", (tmp_path / "out").read_text, deadline_s=10)
    child.stop(grace_s=0.2)
    assert child.process_id is None
    assert child.exit_code == -9


def test_second_start_refused(child: ChildProcess, tmp_path: Path) -> None:
    """One at a time per pid file."""
    start(child, tmp_path, "sleep", "60")
    with pytest.raises(Refused, match="runs already"):
        start(child, tmp_path, "sleep", "60")


def test_ended_by_itself(child: ChildProcess, tmp_path: Path) -> None:
    """One that has ended is not running, and how it ended is known."""
    child.start(["false"], output=tmp_path / "out", attachment=Attachment.DETACHED)
    eventually("it has ended", lambda: child.exit_code is not None, deadline_s=10)
    assert child.exit_code == 1
    assert child.process_id is None


def test_self() -> None:
    """The running process is found by its number, the same at every look."""
    assert ProcessId.of(os.getpid()) == ProcessId.of(os.getpid()) is not None


def test_parent_killed_at_once(tmp_path: Path) -> None:
    """An attached child ends even if its parent was killed before it could ask to die with it."""
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
        eventually("it ends with its parent", lambda: child.process_id is None, deadline_s=20)
    finally:
        child.kill()

"""The scheduler hands out every test once, also when a worker crashes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

QUIET = "def test_one(): pass\ndef test_two(): pass\n"
CRASH = "import os\ndef test_one(): pass\ndef test_crash(): os.abort()\ndef test_two(): pass\n"
UNITS = 12
KILLED_WHILE_ASKED = """
from xdist.workermanage import WorkerController

send = WorkerController.send_runtest_some
sent = []


def killing_once(self, indices):
    sent.append(self)
    if sent.count(self) == 4:
        self.gateway._io.popen.kill()
        self.gateway._io.popen.wait()
        WorkerController.send_runtest_some = send
    send(self, indices)


WorkerController.send_runtest_some = killing_once
"""


@pytest.mark.parametrize("crashing", [1, UNITS - 1], ids=["early", "last"])
def test_a_crashed_worker_costs_one_test(tmp_path: Path, crashing: int) -> None:
    for number in range(UNITS):
        text = CRASH if number == crashing else QUIET
        (tmp_path / f"test_{number:02}.py").write_text(text)
    assert f"1 failed, {2 * UNITS} passed" in printed(tmp_path)


def test_a_worker_killed_before_it_gets_more_costs_one_test(tmp_path: Path) -> None:
    for number in range(UNITS):
        (tmp_path / f"test_{number:02}.py").write_text(QUIET)
    (tmp_path / "conftest.py").write_text(KILLED_WHILE_ASKED)
    counted = re.search(r"1 failed, (\d+) passed", text := printed(tmp_path))
    # The test that it was killed in may have passed, without a report that it ended.
    assert counted, text
    assert int(counted[1]) in {2 * UNITS - 1, 2 * UNITS}, text


def printed(tests: Path) -> str:
    """Run the tests of a folder with two workers; return what pytest prints."""
    (tests / "pytest.ini").write_text("[pytest]\n")
    plugins = ["-p", "tests.schedule", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--numprocesses", "2", "-q", tests],
        cwd=tests,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return ended.stdout + ended.stderr

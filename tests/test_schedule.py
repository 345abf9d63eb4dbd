"""The scheduler hands out every test once, also when a worker crashes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

QUIET = "def test_one(): pass\ndef test_two(): pass\n"
CRASH = "import os\ndef test_one(): pass\ndef test_crash(): os.abort()\ndef test_two(): pass\n"
UNITS = 12


@pytest.mark.parametrize("crashing", [1, UNITS - 1], ids=["early", "last"])
def test_a_crashed_worker_costs_one_test(tmp_path: Path, crashing: int) -> None:
    for number in range(UNITS):
        text = CRASH if number == crashing else QUIET
        (tmp_path / f"test_{number:02}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.schedule", "--numprocesses", "2", "-q"]
    ended = subprocess.run(
        [*command, "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert f"1 failed, {2 * UNITS} passed" in ended.stdout, ended.stdout + ended.stderr

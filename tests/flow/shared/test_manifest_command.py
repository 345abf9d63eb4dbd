"""`erasestream upload --manifest` names the rows that failed, and its bar ends at the total."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from tests.flow.pictures import photo
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.paths import ROOT

ROWS = """path,account,reference,idempotency_key
a.png,manifest,front,sku-1
b.png,manifest,back,sku-1
gone-4711.png,manifest,,
a.png,manifest,"24 inch monitor,
a.png,manifest,plain,
"""


def test_failed_rows_are_named_on_the_terminal_and_listed_in_a_file(
    flow: PipelineHarness, tmp_path: Path
) -> None:
    """The list is beside the checkpoint, and has the caller's references."""
    (tmp_path / "a.png").write_bytes(photo())
    (tmp_path / "b.png").write_bytes(photo() + b"another")
    (tmp_path / "m.csv").write_text(ROWS)
    arguments = ["upload", "--lane", SHOP, "--manifest", str(tmp_path / "m.csv")]
    ran = subprocess.run(
        [sys.executable, "-m", "erasestream.pipeline.cli.main", *arguments],
        cwd=ROOT,
        env={**os.environ, "ERASESTREAM_SETTINGS": str(flow.stack.files.settings), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "acknowledged 2, in earlier runs 0\n"), ran.stderr
    assert "5/5" in ran.stderr
    for failure in ("row 2: repeated_key: ", "row 3: missing_file: ", "row 4: invalid_row: "):
        assert failure in ran.stderr
    assert f"all failed rows: {tmp_path / 'm.csv.failures'}" in ran.stderr
    with (tmp_path / "m.csv.failures").open(newline="") as file:
        listed = [(row["row"], row["reference"], row["code"]) for row in csv.DictReader(file)]
    assert listed == [
        ("2", "back", "repeated_key"),
        ("3", "", "missing_file"),
        ("4", "", "invalid_row"),
    ]

"""Failed rows are in a file of their own, for the run that they failed in."""

import csv
import stat
from pathlib import Path

import pytest

from erasestream.pipeline.bulk_upload.failed_rows import FailedRow, FailureFile
from erasestream.schemas.errors import Code, Refused

FAILED = FailedRow(7, 'a "big", one\n', Code.MISSING_FILE, "The file does not exist.")


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_failed_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    """Unreadable text of a reference is escaped; only the owner can read the file."""
    with FailureFile.beside(tmp_path / "m.csv.checkpoint") as failures:
        failures.add(FAILED)
        failures.add(FAILED._replace(number=9, reference="\udcff"))
        failures.add(FAILED._replace(number=11, reference=None))
        path = tmp_path / "m.csv.failures"
        assert read(path) == [
            ["row", "reference", "code", "sentence"],
            ["7", 'a "big", one\n', "missing_file", "The file does not exist."],
            ["9", "\\udcff", "missing_file", "The file does not exist."],
            ["11", "", "missing_file", "The file does not exist."],
        ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_run_begins_another_file(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run-1"
    with FailureFile.beside(checkpoint) as failures:
        failures.add(FAILED)
    assert failures.path == tmp_path / "run-1.failures"
    with FailureFile.beside(checkpoint):
        assert not failures.path.exists()
    assert not failures.path.exists()


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.failures").mkdir()
    with pytest.raises(Refused, match=r"c\.failures"):
        FailureFile.beside(tmp_path / "c")

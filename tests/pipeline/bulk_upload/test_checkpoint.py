"""The checkpoint survives a kill at any byte."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.bulk_upload.checkpoint import Checkpoint, RowSet, UploadRun, new_run
from erasestream.schemas.errors import Code, Refused

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def run(*, lane: str = "shop", sha256: str = "ab" * 32, random: bytes = b"1") -> UploadRun:
    return new_run(lane=lane, manifest_sha256=sha256, now=NOW, random=random)


RELEASE_1 = run().model_dump_json().replace('"version":2', '"version":1').encode() + b"\n1\n"
"""A checkpoint whose rows may have other numbers in this release."""


def acknowledged(checkpoint: Checkpoint, most: int = 100) -> set[int]:
    """Return the recorded rows."""
    return {number for number in range(most) if number in checkpoint.acknowledged}


def test_rows_and_run_are_kept_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with Checkpoint.begin(path, run()) as first:
        for number in (3, 1, 64, 2):
            first.record(number)
    with Checkpoint.resume(path, run(random=b"2")) as second:
        assert acknowledged(second) == {1, 2, 3, 64}
        assert second.run == first.run
        second.record(4)
    with Checkpoint.resume(path, run()) as third:
        assert acknowledged(third) == {1, 2, 3, 4, 64}


def test_cut_off_at_any_byte_only_whole_lines_count(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    with Checkpoint.begin(whole, run()) as checkpoint:
        for number in (7, 12, 99):
            checkpoint.record(number)
    content = whole.read_bytes()
    for length in range(len(content) + 1):
        cut = tmp_path / "cut"
        cut.write_bytes(content[:length])
        expected = {int(n) for n in content[:length].split(b"\n")[1:-1] if n}
        with Checkpoint.resume(cut, run()) as resumed:
            assert acknowledged(resumed) == expected
            resumed.record(50)
        with Checkpoint.resume(cut, run()) as again:
            assert acknowledged(again) == expected | {50}


def test_an_empty_file_or_half_a_first_line_is_no_checkpoint_yet(tmp_path: Path) -> None:
    for content in (b"", b'{"version":1,"la'):
        path = tmp_path / "c"
        path.write_bytes(content)
        with Checkpoint.begin(path, run()) as checkpoint:
            assert len(checkpoint.acknowledged) == 0
        path.unlink()


def test_a_recorded_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with Checkpoint.begin(path, run()) as checkpoint:
        checkpoint.record(5)
        assert path.read_bytes().endswith(b"\n5\n")


@pytest.mark.parametrize(
    ("other", "why"),
    [(run(sha256="cd" * 32), "manifest has changed"), (run(lane="bulk"), "lane shop")],
)
def test_another_manifest_or_lane_is_refused(tmp_path: Path, other: UploadRun, why: str) -> None:
    path = tmp_path / "c"
    Checkpoint.begin(path, run()).close()
    with pytest.raises(Refused, match=why) as caught:
        Checkpoint.resume(path, other)
    assert caught.value.code is Code.CHECKPOINT_REFUSED


def test_begin_neither_uses_nor_overwrites_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c"
    Checkpoint.begin(path, run()).close()
    before = path.read_bytes()
    with pytest.raises(Refused, match="resume"):
        Checkpoint.begin(path, run())
    assert path.read_bytes() == before


def test_a_checkpoint_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with Checkpoint.begin(path, run()), pytest.raises(Refused, match="in use"):
        Checkpoint.resume(path, run())
    Checkpoint.resume(path, run()).close()


@pytest.mark.parametrize("content", [b"hello\n", b"{}\n", b"\xff\n", b"1\n2\n", RELEASE_1])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(content)
    with pytest.raises(Refused, match="not a checkpoint"):
        Checkpoint.resume(path, run())
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"x\n", b"-1\n", b"\n", b"99999999999999999999\n"])
def test_a_damaged_line_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "c"
    Checkpoint.begin(path, run()).close()
    path.write_bytes(path.read_bytes() + line + b"3\n")
    with pytest.raises(Refused, match="not a checkpoint"):
        Checkpoint.resume(path, run())


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        Checkpoint.begin(tmp_path / "nowhere" / "c", run())


def test_after_a_failed_write_nothing_more_is_written() -> None:
    checkpoint = Checkpoint(os.open("/dev/full", os.O_WRONLY), run(), RowSet())
    for number in (1, 2):
        with pytest.raises(OSError, match=r"space|closed"):
            checkpoint.record(number)
    checkpoint.close()


def test_the_time_of_a_run_is_in_whole_milliseconds() -> None:
    assert run().time.microsecond == 123_000


def test_a_row_set_counts_each_number_once() -> None:
    rows = RowSet()
    for number in (5, 5, 1_000_000):
        rows.add(number)
    assert len(rows) == 2
    assert 4 not in rows
    assert 10**9 not in rows

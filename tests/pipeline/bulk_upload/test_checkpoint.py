"""The checkpoint, cut off anywhere."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.bulk_upload.checkpoint import Checkpoint, Rows, Run, new_run
from erasestream.schemas.errors import Code, Refused

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def run(*, lane: str = "shop", sha256: str = "ab" * 32, random: bytes = b"1") -> Run:
    """A run of this manifest."""
    return new_run(lane=lane, manifest_sha256=sha256, now=NOW, random=random)


def acknowledged(checkpoint: Checkpoint, most: int = 100) -> set[int]:
    """The rows that it has."""
    return {number for number in range(most) if number in checkpoint.acknowledged}


def test_what_was_recorded_is_there_after_a_restart(tmp_path: Path) -> None:
    """Rows in any order, and the id and time of the first run."""
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


def test_cut_off_anywhere_no_row_is_invented(tmp_path: Path) -> None:
    """After a kill at any byte only whole lines count, and the file can be continued."""
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


def test_a_run_that_never_sent_begins_anew(tmp_path: Path) -> None:
    """An empty file, or half a first line, is no checkpoint yet."""
    for content in (b"", b'{"version":1,"la'):
        path = tmp_path / "c"
        path.write_bytes(content)
        with Checkpoint.begin(path, run()) as checkpoint:
            assert len(checkpoint.acknowledged) == 0
        path.unlink()


def test_what_is_recorded_is_in_the_file_at_once(tmp_path: Path) -> None:
    """A kill -9 right after the acknowledgement finds the row written."""
    path = tmp_path / "c"
    with Checkpoint.begin(path, run()) as checkpoint:
        checkpoint.record(5)
        assert path.read_bytes().endswith(b"\n5\n")


@pytest.mark.parametrize(
    ("other", "why"),
    [(run(sha256="cd" * 32), "manifest has changed"), (run(lane="bulk"), "lane shop")],
)
def test_another_manifest_or_lane_is_refused(tmp_path: Path, other: Run, why: str) -> None:
    """Row numbers of one manifest mean nothing in another."""
    path = tmp_path / "c"
    Checkpoint.begin(path, run()).close()
    with pytest.raises(Refused, match=why) as caught:
        Checkpoint.resume(path, other)
    assert caught.value.code is Code.CHECKPOINT_REFUSED


def test_beginning_over_an_old_one_is_refused(tmp_path: Path) -> None:
    """Without resuming, an existing checkpoint is neither used nor overwritten."""
    path = tmp_path / "c"
    Checkpoint.begin(path, run()).close()
    before = path.read_bytes()
    with pytest.raises(Refused, match="resume"):
        Checkpoint.begin(path, run())
    assert path.read_bytes() == before


def test_two_processes_can_not_share_one(tmp_path: Path) -> None:
    """The second is refused while the first has it, and welcome afterwards."""
    path = tmp_path / "c"
    with Checkpoint.begin(path, run()), pytest.raises(Refused, match="in use"):
        Checkpoint.resume(path, run())
    Checkpoint.resume(path, run()).close()


@pytest.mark.parametrize("content", [b"hello\n", b"{}\n", b"\xff\n", b"1\n2\n"])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """Naming the wrong file destroys nothing."""
    path = tmp_path / "c"
    path.write_bytes(content)
    with pytest.raises(Refused, match="not a checkpoint"):
        Checkpoint.resume(path, run())
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"x\n", b"-1\n", b"\n", b"99999999999999999999\n"])
def test_a_damaged_line_is_refused(tmp_path: Path, line: bytes) -> None:
    """A line that was never written here is not guessed at."""
    path = tmp_path / "c"
    Checkpoint.begin(path, run()).close()
    path.write_bytes(path.read_bytes() + line + b"3\n")
    with pytest.raises(Refused, match="not a checkpoint"):
        Checkpoint.resume(path, run())


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    """The sentence says so, before anything is sent."""
    with pytest.raises(Refused, match="No such file"):
        Checkpoint.begin(tmp_path / "nowhere" / "c", run())


def test_after_a_failed_write_nothing_more_is_written() -> None:
    """On a full disk every record raises, so that half a line is never continued."""
    checkpoint = Checkpoint(os.open("/dev/full", os.O_WRONLY), run(), Rows())
    for number in (1, 2):
        with pytest.raises(OSError, match=r"space|closed"):
            checkpoint.record(number)
    checkpoint.close()


def test_a_run_keeps_whole_milliseconds() -> None:
    """What an id can not carry is not in the time."""
    assert run().time.microsecond == 123_000


def test_rows_count_once() -> None:
    """A number that is added twice is one row."""
    rows = Rows()
    for number in (5, 5, 1_000_000):
        rows.add(number)
    assert len(rows) == 2
    assert 4 not in rows
    assert 10**9 not in rows

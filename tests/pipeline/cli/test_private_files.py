"""Commands that write images, and those that remove them."""

import os
import subprocess
import sys
from pathlib import Path

from erasestream.pipeline.cli.console import write_private
from erasestream.pipeline.cli.images import file_stem
from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.ids import UploadId, is_uuid
from tests.paths import CACHE


def test_a_written_image_is_its_owners_only(tmp_path: Path) -> None:
    """Also where a file was that others could read; a device keeps its mode."""
    old = tmp_path / "old.png"
    old.write_bytes(b"a longer picture")
    old.chmod(0o644)
    for path in (old, tmp_path / "new.png"):
        write_private(path, b"picture")
        assert path.read_bytes() == b"picture"
        assert path.stat().st_mode & 0o777 == 0o600
    before = Path(os.devnull).stat().st_mode
    write_private(Path(os.devnull), b"picture")
    assert Path(os.devnull).stat().st_mode == before


def test_a_cutout_is_saved_in_its_folder_whatever_its_id() -> None:
    """The id of an upload by another client may be a path."""
    ours = UploadId("019b7d2c-1d4e-7000-8000-00000000002a")
    assert file_stem(ours) == ours
    stems = {file_stem(UploadId(text)) for text in ("../x", "/etc/x", "x", "X" * 255)}
    assert len(stems) == 4
    assert all(is_uuid(stem) for stem in stems)


def down(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "erasestream.pipeline.cli.main", "dev", "down"]
    done = subprocess.run(
        [*command, "--directory", folder, *options], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_down_tells_that_images_remain_and_wipe_removes_them(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", cache=CACHE)
    stack.create()
    assert stack.files.directory.stat().st_mode & 0o077 == 0
    (tmp_path / "other").touch()
    assert "Images remain" in down(tmp_path / "stack")
    assert stack.exists
    assert "deleted" in down(tmp_path / "stack", "--wipe")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_wipe_deletes_no_folder_that_is_not_a_stack(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert "there is no stack" in down(tmp_path / "photos", "--wipe")
    assert (tmp_path / "photos").is_dir()

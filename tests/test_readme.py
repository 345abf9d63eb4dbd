"""Every command and snippet of the README, as a reader would type them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import skimage

from erasestream.pipeline.settings import load
from tests.paths import ROOT
from tests.pipeline.stages.inference.tiny_model import TINY, serialized, tiny

README = (ROOT / "README.md").read_text()
LIMIT_S = 180
ADDRESS = "127.0.0.1:9093"


def blocks(language: str) -> list[str]:
    """The code blocks of this language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


MAKE, DEBIAN, PLAY, MANIFEST, MODEL = blocks("sh")


class Desk(NamedTuple):
    """A reader's folder with a stack that runs, and what the commands said so far."""

    folder: Path
    environment: dict[str, str]
    said: str

    def type(self, commands: str) -> str:
        """What the commands say; all of them must succeed."""
        ran = subprocess.run(
            ["bash", "-e"],
            input=commands,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The stack of the section on playing, up to where it is taken down."""
    folder = tmp_path_factory.mktemp("desk")
    photos = Path(skimage.__file__).parent / "data"
    shutil.copy(photos / "coffee.png", folder / "photo.jpg")
    (folder / "images.csv").write_text("path,account\nphoto.jpg,acct-17\nnowhere.jpg,acct-17\n")
    (folder / "model.onnx").write_bytes(serialized(tiny()))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ERASESTREAM_CACHE": str(ROOT / ".cache"),
    }
    desk = Desk(folder, environment, "")
    up, _, down = PLAY.rpartition("erasestream dev down")
    assert down == "\n"
    try:
        yield desk._replace(
            said=desk.type(up),
            environment=environment
            | {"ERASESTREAM_SETTINGS": str(folder / ".cache/stack/erasestream.toml")},
        )
    finally:
        desk.type("erasestream dev down")
        assert desk.type("erasestream dev status") == "nothing runs\n"


def test_make_targets_exist() -> None:
    """What the README tells to make, and what it mentions in passing, can be made."""
    mentioned = set(re.findall(r"`(make [a-z]+)[ `]", README))
    assert len(mentioned) > len(MAKE.splitlines())
    for command in mentioned | set(MAKE.splitlines()):
        ran = subprocess.run(
            [*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, check=False
        )
        assert ran.returncode == 0, command


def test_debian_line_brings_what_setting_up_asks_for() -> None:
    """Every package that the set-up names when something is missing is in the line."""
    named = set(DEBIAN.split()) - {"apt-get", "install", "--yes"}
    setup = (ROOT / "deploy/setup.sh").read_text()
    asked = set(re.findall(r"Debian packages? ([a-z0-9-]+)", setup))
    assert asked
    assert asked - {"python3"} <= named


def test_playing_shows_what_it_says(desk: Desk) -> None:
    """An opt-in, an upload, its result, what is retained, a revocation and its history."""
    assert list((desk.folder / "cutouts").glob("*.png"))
    assert desk.said.count(".original.") == 1
    assert desk.said.count(".cutout.") == 1
    assert "not opted in" in desk.said
    assert "ephemeral.shop" in desk.said


def test_manifest_upload_counts_failures_and_resumes(desk: Desk) -> None:
    """One row is sent, one is named as missing; a second run repeats nothing."""
    for acknowledged in ("acknowledged 1, in earlier runs 0", "acknowledged 0, in earlier runs 1"):
        said = desk.type(f"{MANIFEST.strip()} 2>&1 || test $? = 1")
        assert acknowledged in said
        assert re.search(r"1\s+missing_file", said)


def test_python_snippets_send_and_take(desk: Desk) -> None:
    """Producer and consumer, as they stand there, with the address of a real broker."""
    settings = load(desk.folder / ".cache/stack/erasestream.toml")
    link = desk.folder / "identities"
    if not link.exists():
        link.symlink_to(settings.kafka.identities)
    for snippet in blocks("python"):
        assert ADDRESS in snippet
        (desk.folder / "snippet.py").write_text(
            snippet.replace(ADDRESS, settings.kafka.bootstrap_servers[0])
        )
        desk.type("python snippet.py")
    assert list(desk.folder.glob("*.webp"))


def test_own_model_is_installed_by_its_manifest(desk: Desk) -> None:
    """The commands of the section on models, with a model of one's own."""
    import hashlib

    sha256 = hashlib.sha256((desk.folder / "model.onnx").read_bytes()).hexdigest()
    manifest = TINY.model_copy(update={"sha256": sha256})
    (desk.folder / "model.json").write_text(manifest.model_dump_json())
    own = desk._replace(environment=desk.environment | {"ERASESTREAM_CACHE": str(desk.folder)})
    own.type(MODEL)
    assert "tiny" in own.type("erasestream model list")


def test_settings_example_is_accepted(tmp_path: Path) -> None:
    """The example loads, and its lifetimes keep the promise."""
    (example,) = blocks("toml")
    (tmp_path / "erasestream.toml").write_text(example)
    settings = load(tmp_path / "erasestream.toml")
    assert settings.catalog().lane_names == ("shop", "bulk")
    assert settings.storage is not None

"""Run every command and snippet of the README, as a reader would type them."""

import hashlib
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
from PIL import Image

from erasestream.pipeline.settings import load
from tests.paths import ROOT
from tests.pipeline.stages.inference.tiny_model import TINY, serialized, tiny

README = (ROOT / "README.md").read_text()
LIMIT_S = 400
ADDRESS = "127.0.0.1:9093"
KEYS_ADDRESS = "https://127.0.0.1:9443"


def blocks(language: str) -> list[str]:
    """Return the code blocks of this language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


FIRST, MAKE, DEBIAN, CURL, PLAY, MANIFEST, MODEL = blocks("sh")


class Shell(NamedTuple):
    """A reader's shell: a folder, an environment, and the output of the commands so far."""

    folder: Path
    environment: dict[str, str]
    output: str

    def run(self, commands: str) -> str:
        """Run commands, all of which must succeed; return their output."""
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


def is_open_to_others(path: Path) -> bool:
    """Return whether another account could read a file or enter a folder."""
    return bool(path.lstat().st_mode & 0o077) and not path.is_symlink()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Run the section on playing, all its commands but the last."""
    folder = tmp_path_factory.mktemp("reader")
    photos = Path(skimage.__file__).parent / "data"
    shutil.copy(photos / "coffee.png", folder / "photo.jpg")
    (folder / "images.csv").write_text("path,account\nphoto.jpg,acct-17\nnowhere.jpg,acct-17\n")
    (folder / "model.onnx").write_bytes(serialized(tiny()))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ERASESTREAM_CACHE": str(ROOT / ".cache"),
    }
    shell = Shell(folder, environment, "")
    up, _, down = PLAY.rpartition("erasestream dev down")
    assert down == "\n"
    try:
        yield shell._replace(
            output=shell.run(up),
            environment=environment
            | {"ERASESTREAM_SETTINGS": str(folder / ".cache/stack/erasestream.toml")},
        )
    finally:
        stack = folder / ".cache/stack"
        assert "Images remain in" in shell.run("erasestream dev down")
        assert shell.run("erasestream dev status") == "nothing runs\n"
        open_to_others = [path for path in (stack, *stack.rglob("*")) if is_open_to_others(path)]
        assert not [p for p in open_to_others if p.is_dir()]
        written = (stack / "broker/data", stack / "bucket", stack / "logs")
        assert not [p for p in open_to_others if not {*p.parents}.isdisjoint(written)]
        shell.run("erasestream dev down --wipe")
        assert not stack.exists()


def test_make_targets_exist() -> None:
    mentioned = set(re.findall(r"`(make [a-z]+)[ `]", README))
    assert len(mentioned) > len(MAKE.splitlines())
    for command in mentioned | set(MAKE.splitlines()):
        ran = subprocess.run(
            [*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, check=False
        )
        assert ran.returncode == 0, command


def test_debian_line_installs_every_package_that_the_set_up_may_ask_for() -> None:
    named = set(DEBIAN.split()) - {"apt-get", "install", "--yes"}
    setup = (ROOT / "deploy/setup.sh").read_text()
    asked = set(re.findall(r"Debian packages? ([a-z0-9-]+)", setup))
    assert asked
    assert asked - {"python3"} <= named


def test_playing_shows_result_retained_images_and_revocation(shell: Shell) -> None:
    (cutout,) = (shell.folder / "cutouts").glob("*.png")
    assert not is_open_to_others(cutout)
    assert not is_open_to_others(cutout.parent)
    assert shell.output.count(".original.") == 1
    assert shell.output.count(".cutout.") == 1
    assert "not opted in" in shell.output
    assert "ephemeral.shop" in shell.output


def test_the_first_example_is_part_of_one_that_runs() -> None:
    *arguments, address = FIRST.split()
    assert set(arguments) <= set(CURL.split())
    assert address == "https://cutouts.example/v2"


def test_one_curl_fetches_a_cutout(shell: Shell) -> None:
    shell.run(CURL)
    with Image.open(shell.folder / "cutout.png") as cutout:
        assert (cutout.format, cutout.mode) == ("PNG", "RGBA")


def test_manifest_upload_counts_failures_and_resumes(shell: Shell) -> None:
    """One row is sent, one is reported as missing; a second run repeats nothing."""
    for acknowledged in ("acknowledged 1, in earlier runs 0", "acknowledged 0, in earlier runs 1"):
        output = shell.run(f"{MANIFEST.strip()} 2>&1 || test $? = 1")
        assert acknowledged in output
        assert re.search(r"1\s+missing_file", output)


def test_python_snippets_send_and_take(shell: Shell) -> None:
    """Only the addresses are replaced, by those of a real broker and key service."""
    settings = load(shell.folder / ".cache/stack/erasestream.toml")
    assert settings.keys is not None
    real = {
        ADDRESS: settings.kafka.bootstrap_servers[0],
        KEYS_ADDRESS: settings.keys.endpoints[0],
    }
    link = shell.folder / "identities"
    if not link.exists():
        link.symlink_to(settings.kafka.identities)
    for snippet in blocks("python"):
        text = snippet
        for written, address in real.items():
            assert written in text
            text = text.replace(written, address)
        (shell.folder / "snippet.py").write_text(text)
        shell.run("python snippet.py")
    assert list(shell.folder.glob("*.webp"))


def test_own_model_is_installed_by_its_manifest(shell: Shell) -> None:
    sha256 = hashlib.sha256((shell.folder / "model.onnx").read_bytes()).hexdigest()
    manifest = TINY.model_copy(update={"sha256": sha256})
    (shell.folder / "model.json").write_text(manifest.model_dump_json())
    own = shell._replace(environment=shell.environment | {"ERASESTREAM_CACHE": str(shell.folder)})
    own.run(MODEL)
    assert "tiny" in own.run("erasestream model list")


def test_settings_example_is_accepted(tmp_path: Path) -> None:
    (example,) = blocks("toml")
    (tmp_path / "erasestream.toml").write_text(example)
    settings = load(tmp_path / "erasestream.toml")
    assert settings.catalog().lane_names == ("shop", "bulk", "web")
    assert settings.storage is not None

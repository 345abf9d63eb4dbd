"""A mistake on the command line is a sentence, and never asks a supervisor for a restart."""

import json
import os
import subprocess
import sys

import pytest

from erasestream.pipeline.cli import main
from erasestream.pipeline.runtime.runner import EX_CONFIG
from erasestream.schemas.errors import AlreadyExists, Erased, NotFound, SealBroken
from tests.paths import ROOT

SETTINGS = """
[kafka]
bootstrap_servers = ["127.0.0.1:9"]
identities = "identities"
[lanes.shop]
"""
UPLOAD = "upload --lane shop photo.png --account a"
ROWS = "upload --lane shop --manifest"
FILES = "dev files --directory new --models m"
WRONG_USE = [
    "upload --lane Bad_Lane photo.png --account a",
    "upload --lane ../lane photo.png --account a",
    "results --lane Shop!",
    "repair --lane Shop!",
    "consent show a --lane Bad_Lane",
    f"key create a --lane shop --label {65 * 'x'}",
    f"{UPLOAD} --format gif",
    f"{UPLOAD} --format jpg --quality 0",
    f"{UPLOAD} --quality 90",
    f"{UPLOAD} --max-dimension 1",
    f"{UPLOAD} --max-dimension x",
    f"{UPLOAD} --crop --crop-margin 5em",
    f"{UPLOAD} --crop-margin 5px",
    f"{UPLOAD} --bg-color blurple",
    f"{UPLOAD} --manifest rows.csv",
    "upload --lane shop",
    "results --lane shop --save file",
    "results --lane shop --count -1",
    "results --lane shop --wait -1",
    "results --lane shop --wait nan",
    "consent revoke a --lane shop --wait -1",
    "consent revoke a --lane shop --wait inf",
    f"{FILES} --lane shop --bootstrap nohost --bucket h:9 --keys k:9",
    f"{FILES} --lane shop --bootstrap h:9 --bucket h:x --keys k:9",
    f"{FILES} --lane shop --bootstrap h:9 --bucket b:9 --keys k",
    f"{FILES} --lane Bad_Lane --bootstrap h:9 --bucket h:9 --keys k:9",
    "probe nowhere",
    "nowhere",
]
FAILED = [
    "schemas --output file",
    "schemas --output file/folder",
    "dev status --directory file",
    "dev down --directory file",
    "dev up --directory file",
    "dev install --cache file",
]
WRONG_SETUP = [
    f"{ROWS} nowhere.csv",
    f"{ROWS} folder",
    f"{ROWS} rows.csv --checkpoint folder",
    f"{ROWS} rows.csv --checkpoint file/checkpoint",
    "results --lane nowhere",
    "results --lane shop --group a/b",
    "consent grant a --lane nowhere",
    "repair --lane nowhere",
    "provision --plan",
    "model install nowhere.onnx",
    "model install --manifest nowhere.json",
    "model install --manifest folder",
    "model install --manifest photo.png",
    "model install --model nowhere",
    "model install --build nowhere",
    "dev down --directory folder --wipe",
    "demo --images nowhere",
    "demo --model nowhere",
]


EXPECTED = {
    **dict.fromkeys(WRONG_USE, main.WRONG_USE),
    **dict.fromkeys(FAILED, main.FAILED),
    **dict.fromkeys(WRONG_SETUP, EX_CONFIG),
}

RUN_ALL = """
import contextlib, io, json, sys, traceback
from erasestream.pipeline.cli.main import main
ended = {}
for line in json.loads(sys.stdin.read()):
    sys.argv = ["erasestream", *line.split()]
    errors, status = io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            main()
    except SystemExit as end:
        status = end.code
    except Exception:
        status = traceback.format_exc()
    ended[line] = status, errors.getvalue()
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, str]]:
    """Run every command line in one process; return its status and standard error.

    In a folder with settings, an image, a manifest, an empty file and an empty folder.
    """
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "erasestream.toml").write_text(SETTINGS)
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "rows.csv").write_text("path,account\nphoto.png,a\n")
    (folder / "file").write_text("")
    (folder / "folder").mkdir()
    environment = {name: v for name, v in os.environ.items() if not name.startswith("ERASESTREAM_")}
    ran = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(list(EXPECTED)),
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    outcome: dict[str, tuple[object, str]] = json.loads(ran.stdout)
    return outcome


@pytest.mark.parametrize("line", EXPECTED)
def test_a_mistake_is_a_sentence(ended: dict[str, tuple[object, str]], line: str) -> None:
    status, errors = ended[line]
    assert status == EXPECTED[line]
    assert errors.strip()


@pytest.mark.parametrize("error", [NotFound, AlreadyExists, Erased, SealBroken])
def test_an_object_that_cannot_be_opened_asks_for_no_restart(
    error: type[NotFound | AlreadyExists | Erased | SealBroken],
) -> None:
    assert main._status_of(error()) == main.FAILED

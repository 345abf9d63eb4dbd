"""The documents name files, tests and commands that exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

DOCUMENTS = [
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/*.md"))
    if "erasestream" not in path.parts[len(ROOT.parts) :]
]
TREES = ("deploy", "docs", "pipeline", "requirements", "schemas", "sinks", "tests", "topics")
NAMED = re.compile(rf"`((?:{'|'.join(TREES)})/[^\s`<*]*|\w+\.py)`")


def named(document: Path) -> list[str]:
    return NAMED.findall(document.read_text())


def modules() -> set[str]:
    return {path.name for tree in TREES for path in (ROOT / tree).rglob("*.py")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_and_tests_exist(document: Path) -> None:
    known = modules()
    for name in named(document):
        path, _, test = name.partition("::")
        assert path in known if "/" not in path else (ROOT / path).exists(), name
        if test:
            assert re.search(rf"(?m)^(async )?def {test}\(", (ROOT / path).read_text()), name


@pytest.mark.parametrize(
    "decision", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: path.name[:4]
)
def test_decisions_have_a_number_and_a_status(decision: Path) -> None:
    lines = decision.read_text().splitlines()
    assert lines[0].startswith(f"# {decision.name[:4]}: ")
    assert lines[2].startswith("Status: accepted")


def test_the_layout_names_every_folder() -> None:
    layout = (ROOT / "docs" / "decisions" / "0017-the-layout.md").read_text()
    named = set(re.findall(r"[a-z_]+", layout))
    folders = {
        path.parent.relative_to(ROOT)
        for package in ("schemas", "topics", "sinks", "pipeline")
        for path in (ROOT / package).glob("*/__init__.py")
    }
    stages = {path.parent.relative_to(ROOT) for path in ROOT.glob("pipeline/stages/*/__init__.py")}
    assert {str(each) for each in folders | stages if each.name not in named} == set()


def commands() -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"(?ms)^ *```sh\n(.*?)^ *```$", text)
    return [line.strip() for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("command", commands())
def test_contributing_commands_exist(command: str) -> None:
    """Targets of make are run dry, tests are collected, modules and commands are found."""
    program, *arguments = shlex.split(command)
    python = [sys.executable]
    match program, arguments:
        case "make", _:
            run = [program, "--dry-run", *arguments]
        case ".venv/bin/python", ["-m", "pytest", *of]:
            run = [*python, "-m", "pytest", "--collect-only", "-qq", *of]
        case ".venv/bin/python", ["-m", module]:
            run = [*python, "-c", f"import importlib.util as u; assert u.find_spec({module!r})"]
        case ".venv/bin/erasestream", [name, *_]:
            run = [*python, "-m", "erasestream.pipeline.cli.main", name, "--help"]
        case _:
            raise AssertionError(command)
    ran = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr

"""The compose file as data, and what its set-up hands out."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.paths import ROOT

COMPOSE = ROOT / "deploy/compose"

Service = Mapping[str, Any]


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """docker-compose.yml with its merges resolved."""
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


@pytest.fixture(scope="session")
def services(document: dict[str, Any]) -> dict[str, Service]:
    return dict(document["services"])


@pytest.fixture(scope="session")
def set_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run `setup` once, and return the folder with `authority` and `hand-out`."""
    folder = tmp_path_factory.mktemp("setup")
    run_setup(folder)
    return folder


def run_setup(folder: Path) -> None:
    """Run the command of the service `setup`."""
    command = [sys.executable, str(COMPOSE / "setup.py")]
    command += ["--settings", str(COMPOSE / "erasestream.toml")]
    command += ["--authority", str(folder / "authority"), "--hand-out", str(folder / "hand-out")]
    subprocess.run(command, check=True, cwd=ROOT, timeout=60)


def mounts(service: Service) -> dict[str, str]:
    """Return the volumes of a service: from the name to the target with its options."""
    pairs = (volume.partition(":") for volume in service.get("volumes", ()))
    return {name: target for name, _, target in pairs}

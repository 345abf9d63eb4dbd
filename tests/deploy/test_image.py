"""The image: what is installed in it, and what is copied into it."""

import importlib.util
import re

from tests.paths import ROOT


def test_requirements_follow_the_project() -> None:
    """The image's packages are those of the services, with the versions and hashes of dev.txt."""
    path = ROOT / "deploy/image_requirements.py"
    spec = importlib.util.spec_from_file_location("image_requirements", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "requirements/image.txt").read_text()
    assert text == module.text(), (
        "run: python deploy/image_requirements.py > requirements/image.txt"
    )
    assert not {"pytest", "mypy", "hypothesis", "uv"} & module.wanted()


def test_every_package_has_hashes() -> None:
    """Nothing is installed whose content is not pinned."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (ROOT / "requirements/image.txt").read_text())[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
    assert "--require-hashes" in (ROOT / "Dockerfile").read_text()


def test_what_is_copied_is_let_through() -> None:
    """The build sees what the Dockerfile copies, and nothing else of the folder."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = set(re.findall(r"(?m)^COPY ([^-\s]\S*) ", dockerfile))
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied == {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_nobody_special() -> None:
    """The last user of every stage that runs is the ordinary one."""
    stages = re.split(r"(?m)^FROM ", (ROOT / "Dockerfile").read_text())
    for stage in stages:
        if users := re.findall(r"(?m)^USER (\S+)", stage):
            assert users[-1] == "1000:1000"

"""The image: its packages, its files and its user."""

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
    assert not {"pytest", "mypy", "hypothesis", "uv"} & module.required_packages()


def test_every_package_has_hashes() -> None:
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (ROOT / "requirements/image.txt").read_text())[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
    assert "--require-hashes" in (ROOT / "Dockerfile").read_text()


def test_the_build_context_holds_exactly_the_copied_files() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = set(re.findall(r"(?m)^COPY ([^-\s]\S*) ", dockerfile))
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied == {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_an_unprivileged_user() -> None:
    """The last user of every stage."""
    stages = re.split(r"(?m)^FROM ", (ROOT / "Dockerfile").read_text())
    for stage in stages:
        if users := re.findall(r"(?m)^USER (\S+)", stage):
            assert users[-1] == "1000:1000"

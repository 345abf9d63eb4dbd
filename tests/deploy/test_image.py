"""The images: their packages, their files and their user."""

import importlib.util
import re
from types import ModuleType

import pytest

from tests.paths import ROOT

FOLDER = ROOT / "requirements/image"
IMAGES = ("cli", "sink", "worker", "gateway", "model", "local")
PRODUCTION = ("cli", "sink", "worker", "gateway", "model")
DOCKERFILE = (ROOT / "Dockerfile").read_text()

NEVER_IN: dict[str, set[str]] = {
    "cli": {"onnxruntime", "pillow", "google-cloud-storage", "starlette"},
    "sink": {"onnxruntime", "pillow", "faust-streaming", "starlette"},
    "worker": {"onnx", "google-cloud-storage", "starlette"},
    "gateway": {"onnxruntime", "pillow", "faust-streaming", "google-cloud-storage"},
    "model": {"google-cloud-storage", "starlette"},
    "local": {"onnxruntime", "pillow"},
}
"""Packages that the processes of an image have no use for."""


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "image_requirements", ROOT / "deploy/image_requirements.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stages() -> dict[str, str]:
    """Return the text of each stage of the Dockerfile, by its name."""
    parts = re.split(r"(?m)^FROM \S+ AS (\S+)$", DOCKERFILE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_there_is_an_image_for_each_extra_and_the_local_stack(generator: ModuleType) -> None:
    assert set(generator.IMAGES) == set(IMAGES) == {path.stem for path in FOLDER.glob("*.txt")}
    assert set(IMAGES) < set(stages())


@pytest.mark.parametrize("image", IMAGES)
def test_requirements_follow_the_project(generator: ModuleType, image: str) -> None:
    """An image has the packages of its extra, with the versions and hashes of dev.txt."""
    text = (FOLDER / f"{image}.txt").read_text()
    assert text == generator.text(image), "run: python deploy/image_requirements.py"
    packages = generator.required_packages(image)
    assert not packages & NEVER_IN[image]
    assert not packages & {"pytest", "mypy", "hypothesis", "uv", "pip"}


@pytest.mark.parametrize("image", IMAGES)
def test_every_package_has_hashes(image: str) -> None:
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (FOLDER / f"{image}.txt").read_text())[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
    assert "--require-hashes" in DOCKERFILE


@pytest.mark.parametrize("image", PRODUCTION)
def test_images_for_production_have_no_local_stack(image: str) -> None:
    """Neither the local bucket nor the development authority."""
    assert "COPY --from=production-code /app /app" in stages()[image]
    assert "rm -r /app/pipeline/devstack /app/pipeline/demo" in stages()["production-code"]
    assert "--from=code" not in stages()[image]


def test_only_the_installation_of_a_model_has_what_downloads() -> None:
    """The photos that judge a model come through pip, the model through npm."""
    adds_pip = "python -m venv /opt/erasestream"
    assert {name for name, text in stages().items() if adds_pip in text} == {"model-packages"}
    assert {name for name, text in stages().items() if "npm-cli.js" in text} == {"model"}


def test_the_build_context_holds_exactly_the_copied_files() -> None:
    copied = set(re.findall(r"(?m)^COPY ([^-\s]\S*) ", DOCKERFILE))
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert {"requirements/image" if "requirements" in name else name for name in copied} == kept
    assert "*" in ignore
    assert all((ROOT / name).exists() for name in copied)


def test_the_images_run_as_an_unprivileged_user() -> None:
    """The last user of every stage that has one; each image derives from such a stage."""
    users = {name: re.findall(r"(?m)^USER (\S+)", text) for name, text in stages().items()}
    assert {found[-1] for found in users.values() if found} == {"1000:1000"}
    assert users["base"]
    assert all(f"FROM base AS {image}\n" in DOCKERFILE for image in IMAGES)

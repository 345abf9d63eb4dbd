"""The wheel in an environment of its own: the base install, and every extra."""

import hashlib
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.package_environment import Environment, build_wheel
from tests.paths import ROOT
from tests.pipeline.stages.inference.tiny_model import TINY, serialized, tiny

BASE = {"confluent-kafka", "cryptography", "pydantic"}
OF_CRYPTOGRAPHY = {"cffi", "pycparser"}
OF_PYDANTIC = {"annotated-types", "pydantic-core", "typing-extensions", "typing-inspection"}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

IMPORT_ALL = """
import importlib, pkgutil, sys
without = tuple(name.removeprefix("-") for name in sys.argv[1:] if name.startswith("-"))
for name in sys.argv[1 + len(without):]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{name}."):
        if not without or not module.name.startswith(without):
            importlib.import_module(module.name)
"""

MODULES = {
    "": ("erasestream.schemas", "erasestream.topics"),
    "cli": (
        "erasestream.pipeline.cli",
        "erasestream.pipeline.settings",
        "erasestream.pipeline.runtime",
        "erasestream.pipeline.bulk_upload",
        "erasestream.pipeline.stages.purge",
        "erasestream.pipeline.stages.routing",
    ),
    "worker": (
        "-erasestream.pipeline.stages.inference.models.install",
        "erasestream.pipeline.bootstrap.inference",
        "erasestream.pipeline.stages.inference",
    ),
    "model": ("erasestream.pipeline.stages.inference",),
    "sink": (
        "-erasestream.sinks.images.decoding",
        "-erasestream.sinks.keys.cloud_kms",
        "erasestream.sinks",
        "erasestream.pipeline.stages.encryption",
        "erasestream.pipeline.stages.erasure",
    ),
    "training": ("erasestream.sinks.images",),
    "kms": ("erasestream.sinks.keys", "erasestream.pipeline.stages.rotation"),
    "gateway": ("erasestream.pipeline.gateway", "erasestream.pipeline.bootstrap.gateway"),
    "dev": ("erasestream.pipeline",),
}
"""The packages of which each module must be importable with an extra, except for those with `-`."""

COMMANDS = {
    "cli": ("--help", "codes", "schemas", "topics --help"),
    "worker": ("model list", "infer --help", "probe --help"),
    "model": ("model install --help",),
    "sink": ("retained --help", "sink --help"),
    "training": ("retained --help",),
    "kms": ("rotate --help",),
    "gateway": ("gateway --help", "key --help"),
    "dev": ("dev status", "demo --help"),
}
WITHOUT = {
    "": {"topics": "cli", "upload --help": "cli"},
    "cli": {"model install": "model", "gateway": "gateway", "dev status": "dev", "demo": "dev"},
    "worker": {"model install": "model"},
}
"""Commands that must name the extra that they lack."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Environment]:
    made: dict[str, Environment] = {}

    def make(extra: str) -> Environment:
        if extra not in made:
            made[extra] = Environment(wheel, extra, tmp_path_factory.mktemp(extra or "base"))
        return made[extra]

    return make


def succeeds(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_wheel_has_one_package_at_its_top_and_its_licence(
    environment: Callable[[str], Environment],
) -> None:
    installed = {path.name for path in environment("").site.iterdir() if not path.is_symlink()}
    ours = {name for name in installed if name.startswith("erasestream")}
    (information,) = ours - {"erasestream"}
    assert (environment("").site / information / "licenses/LICENSE").is_file()
    assert (
        "License-Expression: Apache-2.0\n"
        in (environment("").site / information / "METADATA").read_text()
    )


def test_base_install_needs_kafka_pydantic_and_cryptography_only(
    environment: Callable[[str], Environment],
) -> None:
    assert set(environment("").distributions) == BASE | OF_CRYPTOGRAPHY | OF_PYDANTIC


def test_client_libraries_work_beside_a_module_called_schemas(
    environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    (tmp_path / "schemas.py").write_text("MINE = True\n")
    code = (
        "import schemas, erasestream, erasestream.schemas.events.images\n"
        "from erasestream import UploadProducer\n"
        "print(schemas.MINE, erasestream.__file__, UploadProducer.__module__)\n"
    )
    mine, file, module = succeeds(environment("").run("python", "-c", code, cwd=tmp_path)).split()
    assert mine == "True"
    assert file.startswith(str(environment("").site))
    assert module == "erasestream.topics.client.upload_producer"


@pytest.mark.parametrize("extra", MODULES)
def test_every_module_of_an_extra_can_be_imported(
    extra: str, environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    succeeds(environment(extra).run("python", "-c", IMPORT_ALL, *MODULES[extra], cwd=tmp_path))


@pytest.mark.parametrize(
    ("extra", "command"), [(extra, each) for extra, all_ in COMMANDS.items() for each in all_]
)
def test_commands_of_an_extra_work(
    extra: str, command: str, environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    succeeds(environment(extra).run("erasestream", *command.split(), cwd=tmp_path))


@pytest.mark.parametrize(
    ("extra", "command", "lacking"),
    [(extra, *each) for extra, all_ in WITHOUT.items() for each in all_.items()],
)
def test_command_names_the_extra_that_it_lacks(
    extra: str,
    command: str,
    lacking: str,
    environment: Callable[[str], Environment],
    tmp_path: Path,
) -> None:
    ran = environment(extra).run("erasestream", *command.split(), cwd=tmp_path)
    assert ran.returncode == 1
    assert f"pip install 'erasestream[{lacking}]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_model_extra_installs_a_model_that_the_worker_extra_finds(
    environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    model = serialized(tiny())
    manifest = TINY.model_copy(update={"sha256": hashlib.sha256(model).hexdigest()})
    (tmp_path / "model.onnx").write_bytes(model)
    (tmp_path / "model.json").write_text(manifest.model_dump_json())
    install = "erasestream model install model.onnx --manifest model.json"
    succeeds(environment("model").run(*install.split(), cwd=tmp_path))
    assert "tiny" in succeeds(
        environment("worker").run("erasestream", "model", "list", cwd=tmp_path)
    )


def test_every_extra_is_tested() -> None:
    assert {"", *EXTRAS} == set(MODULES)
    assert set(COMMANDS) == set(EXTRAS)

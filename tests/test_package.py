"""What users install: a wheel whose modules collide with nobody's, and needs little."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.paths import ROOT

SITE = sysconfig.get_path("purelib")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, in a folder."""
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = built.glob("*.whl")
    installed = built / "installed"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(installed)
    return installed


def run(code: str, *path: Path | str) -> subprocess.CompletedProcess[str]:
    """Run code with exactly these folders on the path: -S keeps this checkout out of it."""
    setup = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", setup + code],
        capture_output=True,
        text=True,
        check=False,
    )


def test_wheel_leaves_the_users_own_schemas_alone(wheel: Path, tmp_path: Path) -> None:
    """In an environment with a module `schemas` of its own, both work."""
    (tmp_path / "schemas.py").write_text("MINE = True\n")
    code = (
        "import schemas, erasestream, erasestream.schemas.events.images\n"
        "from erasestream import UploadProducer\n"
        "print(schemas.MINE, erasestream.__file__, UploadProducer.__module__)\n"
    )
    ran = run(code, tmp_path, wheel, SITE)
    assert ran.returncode == 0, ran.stderr
    mine, file, module = ran.stdout.split()
    assert mine == "True"
    assert file.startswith(str(wheel))
    assert module == "erasestream.topics.client.upload_producer"


def test_wheel_holds_no_bare_package(wheel: Path) -> None:
    """Nothing but `erasestream` lands at the top of the user's environment."""
    assert {path.name.partition("-")[0] for path in wheel.iterdir()} == {"erasestream"}


def test_client_libraries_load_only_the_base_install(wheel: Path) -> None:
    """`import erasestream` needs confluent-kafka and pydantic, and loads nothing of an extra."""
    code = "import erasestream, sys; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    ran = run(code, wheel, SITE)
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.split())
    assert {"confluent_kafka", "pydantic"} <= loaded
    extras = {"typer", "rich", "numpy", "PIL", "onnx", "onnxruntime", "faust", "google"}
    assert not loaded & (extras | {"cryptography", "starlette", "pydantic_settings"})


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [("typer", ["topics"], "cli"), ("onnx", ["model", "install"], "worker")],
)
def test_command_says_what_to_install(
    wheel: Path, missing: str, arguments: list[str], extra: str
) -> None:
    """Without an extra, the command names it instead of showing a traceback."""
    code = (
        "import importlib.abc\n"
        "class Without(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        f"sys.argv = ['erasestream', *{arguments!r}]\n"
        "from erasestream.pipeline.cli.main import main\n"
        "main()\n"
    )
    ran = run(code, wheel, SITE)
    assert ran.returncode == 1
    assert f"erasestream[{extra}]" in ran.stderr
    assert "Traceback" not in ran.stderr

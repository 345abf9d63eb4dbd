"""The public names, which are imported when the first one is used."""

import subprocess
import sys

import pytest

import erasestream
from erasestream import public_api
from tests.paths import ROOT

WORKER = "erasestream.pipeline.stages.inference.isolation.zygote"


def test_a_public_name_is_an_attribute_of_the_package() -> None:
    for name in public_api.__all__:
        assert getattr(erasestream, name) is getattr(public_api, name)
    assert set(public_api.__all__) <= set(dir(erasestream))


def test_a_star_imports_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from erasestream import *", names)  # noqa: S102 (allowed at module level only)
    assert names.keys() - {"__builtins__"} == set(public_api.__all__)


@pytest.mark.parametrize("name", ["Uploader", "UploadError", "__wrapped__"])
def test_another_name_is_missing(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'erasestream' has no attribute '{name}'"):
        getattr(erasestream, name)


def test_a_worker_process_loads_no_kafka_client() -> None:
    program = f"import sys, {WORKER}; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = ran.stdout.split()
    assert WORKER in loaded
    assert "confluent_kafka" not in loaded
    assert not [name for name in loaded if name.startswith("erasestream.topics")]

"""Models and pools for the tests of the inference stage."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from tests.paths import CACHE
from tests.pipeline.stages.inference.tiny_model import build_stalling_model, build_tiny_model

DEADLINE_S = 30.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until it holds; fail after 30 seconds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether this process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The tiny model, installed."""
    return Installed.read(build_tiny_model(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="session")
def stalling_model(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The model that never ends with a black picture, installed."""
    return Installed.read(build_stalling_model(tmp_path_factory.mktemp("models")))


@pytest.fixture
async def pool(stalling_model: Installed) -> AsyncIterator[ProcessPool]:
    """Two children that are ready; without a deadline that a test could meet by accident."""
    pool = ProcessPool(model=stalling_model, children=2)
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def models() -> Path:
    """The store of this checkout, which `make` fills with the real model."""
    return CACHE / "models"

"""Models and pools for the tests of the inference stage."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.clocks import Deadline
from tests.paths import CACHE
from tests.pipeline.stages.inference.tiny_model import build_stalling_model, build_tiny_model

DEADLINE_S = 120.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds; fail after 30 seconds."""
    deadline = Deadline(DEADLINE_S, time.monotonic)
    while not condition():
        assert not deadline.has_passed, "it did not happen"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Return whether this process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return the tiny model, installed."""
    return Installed.read(build_tiny_model(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="session")
def stalling_model(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return the model that never finishes a black picture, installed."""
    return Installed.read(build_stalling_model(tmp_path_factory.mktemp("models")))


@pytest.fixture
async def pool(stalling_model: Installed) -> AsyncIterator[ProcessPool]:
    """Yield a pool of two children, whose default deadline no test reaches."""
    pool = ProcessPool(model=stalling_model, children=2)
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def models() -> Path:
    """Return the store of this checkout, into which `make` installs the real model."""
    return CACHE / "models"

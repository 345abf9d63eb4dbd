"""Running pipelines: one that all tests share, one that may be broken, one without stages."""

from collections.abc import Iterator

import pytest

from tests.flow.running import Flow


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """The pipeline that tests share; each uses accounts of its own and leaves it running."""
    flow = Flow(tmp_path_factory.mktemp("flow"))
    try:
        flow.start()
        yield flow
    finally:
        flow.stop()


@pytest.fixture(scope="session")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Another one; see `fragile`."""
    flow = Flow(tmp_path_factory.mktemp("fragile"))
    try:
        flow.start()
        yield flow
    finally:
        flow.stop()


@pytest.fixture
def fragile(breakable: Flow) -> Flow:
    """A pipeline in which things may be killed; whole again before each test."""
    breakable.start_stages()
    return breakable


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Broker, bucket, topics and rights without stages: nothing reads what is written here."""
    flow = Flow(tmp_path_factory.mktemp("bare"))
    try:
        flow.start(stages=())
        yield flow
    finally:
        flow.stop()

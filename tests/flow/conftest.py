"""Running pipelines: one that all tests share, one that may be broken, one without stages."""

from collections.abc import Iterator

import pytest

from tests.flow.pipeline_harness import PipelineHarness


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """The pipeline that tests share; each uses accounts of its own and leaves it running."""
    flow = PipelineHarness(tmp_path_factory.mktemp("flow"))
    try:
        flow.start()
        yield flow
    finally:
        flow.stop()


@pytest.fixture(scope="session")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """Another one; see `fragile`."""
    flow = PipelineHarness(tmp_path_factory.mktemp("fragile"))
    try:
        flow.start()
        yield flow
    finally:
        flow.stop()


@pytest.fixture
def fragile(breakable: PipelineHarness) -> PipelineHarness:
    """A pipeline in which things may be killed; whole again before each test."""
    breakable.start_stages()
    return breakable


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """Broker, bucket, topics and rights without stages: nothing reads what is written here."""
    flow = PipelineHarness(tmp_path_factory.mktemp("bare"))
    try:
        flow.start(stages=())
        yield flow
    finally:
        flow.stop()

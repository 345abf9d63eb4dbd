"""Running pipelines: one that all tests share, one that tests may break, one without stages."""

from collections.abc import Iterator

import pytest

from tests.flow.pipeline_harness import PipelineHarness


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """The shared pipeline; each test uses accounts of its own and leaves it running."""
    flow = PipelineHarness(tmp_path_factory.mktemp("flow"))
    try:
        flow.start()
        yield flow
    finally:
        flow.stop()


@pytest.fixture(scope="session")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """A second pipeline; tests use it as `fragile`."""
    flow = PipelineHarness(tmp_path_factory.mktemp("fragile"))
    try:
        flow.start()
        yield flow
    finally:
        flow.stop()


@pytest.fixture
def fragile(breakable: PipelineHarness) -> PipelineHarness:
    """A pipeline whose processes a test may kill; all stages run before each test."""
    breakable.start_stages()
    return breakable


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """Broker, bucket, topics and rights without stages: nothing reads what tests write."""
    flow = PipelineHarness(tmp_path_factory.mktemp("bare"))
    try:
        flow.start(stages=())
        yield flow
    finally:
        flow.stop()

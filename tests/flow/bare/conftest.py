"""Broker, bucket, topics and rights without stages: nothing reads what tests write."""

from collections.abc import Iterator

import pytest

from tests.flow.pipeline_harness import PipelineHarness


@pytest.fixture(scope="package")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """Yield provisioned servers; a test starts the stages that it needs and stops them."""
    flow = PipelineHarness(tmp_path_factory.mktemp("bare"))
    try:
        flow.start(stages=())
        yield flow
    finally:
        flow.stop()

"""One running pipeline for all tests of this folder; each uses accounts of its own."""

from collections.abc import Iterator

import pytest

from tests.flow.pipeline_harness import PipelineHarness


@pytest.fixture(scope="package")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """Yield the pipeline; tests leave it running."""
    flow = PipelineHarness(tmp_path_factory.mktemp("flow"))
    try:
        flow.start()
        yield flow
    finally:
        flow.stop()

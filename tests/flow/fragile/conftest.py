"""One pipeline that the tests of this folder break and repair."""

from collections.abc import Iterator

import pytest

from erasestream.topics.catalog.roles import KEYS
from tests.flow.pipeline_harness import STAGES, PipelineHarness


@pytest.fixture(scope="package")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """Yield the pipeline; tests use it as `fragile`."""
    flow = PipelineHarness(tmp_path_factory.mktemp("fragile"))
    try:
        flow.start()
        yield flow
    finally:
        flow.stop()


@pytest.fixture
def fragile(breakable: PipelineHarness) -> PipelineHarness:
    """Return a pipeline whose processes a test may kill; all of it runs before each test.

    A test that failed may have left the broker or the bucket as it broke them.
    """
    stack = breakable.stack
    if stack.broker.process_id is None:
        stack.broker.start()
    stack.broker.resume()
    if stack.bucket.process_id is None:
        stack.start_bucket()
    breakable.start_stages((KEYS, *STAGES))
    return breakable

"""The server that the contract is run against, and names of a test's own."""

import uuid
from collections.abc import Iterator

import pytest
from google.cloud import storage

from tests.buckets.deviations import DEVIATIONS
from tests.buckets.servers import Server, chosen, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the known deviations of the chosen server, strictly."""
    known = DEVIATIONS.get(chosen(), {})
    for item in items:
        test, _, _ = item.name.partition("[")
        reason = known.get(item.name, known.get(test))
        if reason and item.nodeid.startswith("tests/buckets/"):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("contract")) as server:
        yield server


@pytest.fixture
def bucket(server: Server) -> storage.Bucket:
    """Return the bucket that is private and forgets."""
    return server.client.bucket(server.plain)


@pytest.fixture
def name(bucket: storage.Bucket) -> Iterator[str]:
    """Return a name, and a prefix, that no other test uses; delete what is left below it."""
    prefix = f"contract/{uuid.uuid4()}"
    yield prefix
    for blob in bucket.list_blobs(prefix=prefix, retry=None):
        blob.delete(retry=None)

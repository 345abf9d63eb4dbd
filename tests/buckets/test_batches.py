"""Batches of deletions: those of the real client, and ours."""

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import storage

from erasestream.sinks.buckets.batch_deletion import MAX_PARTS, BatchDeletion
from erasestream.sinks.buckets.bucket_operations import is_missing_object
from tests.buckets.calls import ONCE, create, exists
from tests.buckets.servers import Server

ODD = ("a", "b/c", "grün ☃ %2F ?&#+")
TIMEOUT_S = (30.0, 30.0)


def statuses(server: Server, *deletions: tuple[storage.Blob, int | None]) -> list[int]:
    """Delete objects, of a generation if one is given, in one batch; return the statuses."""
    batch = server.client.batch(raise_exception=False)
    with batch:
        for blob, generation in deletions:
            blob.delete(if_generation_match=generation, **ONCE)
    return [each.status_code for each in batch._responses]


def ours(server: Server, bucket: str) -> BatchDeletion:
    """Return our form of a batch, on the client's session."""
    session = server.client._http
    session.headers.update(server.client._extra_headers)
    return BatchDeletion(session, endpoint=server.endpoint, bucket=bucket, timeout=TIMEOUT_S)


def test_a_batch_deletes_its_objects(server: Server, bucket: storage.Bucket, name: str) -> None:
    """And no other one."""
    blobs = [create(bucket, f"{name}/{each}", b"x") for each in (*ODD, "left")]
    assert statuses(server, *((blob, None) for blob in blobs[:-1])) == [204] * len(ODD)
    assert [blob.name for blob in bucket.list_blobs(prefix=f"{name}/", **ONCE)] == [f"{name}/left"]


def test_each_part_of_a_batch_succeeds_or_fails_alone(
    server: Server, bucket: storage.Bucket, name: str
) -> None:
    """A missing object, and one of another generation, hinder no other deletion."""
    first, kept, last = (create(bucket, f"{name}/{n}", b"x") for n in range(3))
    missing = bucket.blob(f"{name}/missing")
    parts = [(first, None), (missing, None), (kept, 1), (last, last.generation)]
    assert statuses(server, *parts) == [204, 404, 412, 204]
    assert [exists(bucket, each.name) for each in (first, kept, last)] == [False, True, False]


def test_our_batch_deletes_its_objects(server: Server, bucket: storage.Bucket, name: str) -> None:
    blobs = [create(bucket, f"{name}/{each}", b"x") for each in (*ODD, "left")]
    ours(server, bucket.name).delete([blob.name for blob in blobs[:-1]])
    assert [blob.name for blob in bucket.list_blobs(prefix=f"{name}/", **ONCE)] == [f"{name}/left"]


def test_a_missing_object_is_deleted_already(
    server: Server, bucket: storage.Bucket, name: str
) -> None:
    """In a batch of ours, which has as many parts as may be in one."""
    create(bucket, name, b"x")
    ours(server, bucket.name).delete([*(f"{name}-{n}" for n in range(MAX_PARTS - 1)), name])
    assert not exists(bucket, name)


def test_our_batch_in_a_missing_bucket_is_no_success(server: Server, name: str) -> None:
    with pytest.raises(GoogleAPICallError) as caught:
        ours(server, "contract-that-does-not-exist").delete([name])
    assert not is_missing_object(caught.value)


def test_a_batch_of_an_anonymous_caller_is_refused(
    server: Server, bucket: storage.Bucket, name: str
) -> None:
    """As a whole, or each of its parts."""
    create(bucket, name, b"x")
    with server.anonymous() as session:
        batch = BatchDeletion(
            session,  # type: ignore[arg-type]
            endpoint=server.endpoint,
            bucket=bucket.name,
            timeout=TIMEOUT_S,
        )
        with pytest.raises(GoogleAPICallError) as caught:
            batch.delete([name])
    assert caught.value.code == 401
    assert exists(bucket, name)

"""Uploads, preconditions, reads and listings, as the real client meets them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.api_core.exceptions import (
    BadRequest,
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    RequestRangeNotSatisfiable,
)
from google.cloud import storage

from erasestream.sinks.buckets.bucket_operations import is_missing_object
from tests.buckets.calls import DATA, OCTETS, ONCE, crc32c, create, exists, md5
from tests.buckets.servers import Server

# Uploads


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_multipart_upload_is_read_and_described(
    bucket: storage.Bucket, name: str, size: int
) -> None:
    data = (DATA * 10)[:size]
    created = create(bucket, name, data, if_generation_match=0)
    found = bucket.get_blob(name, **ONCE)
    assert (found.size, found.crc32c, found.md5_hash) == (size, crc32c(data), md5(data))
    assert (found.name, found.content_type) == (name, OCTETS)
    assert found.generation == created.generation > 0
    assert found.time_created
    assert found.etag
    assert found.download_as_bytes(raw_download=True, checksum="crc32c", **ONCE) == data


def test_a_media_upload_is_read(server: Server, bucket: storage.Bucket, name: str) -> None:
    url = f"{server.endpoint}/upload/storage/v1/b/{bucket.name}/o"
    parameters = {"uploadType": "media", "name": name, "ifGenerationMatch": "0"}
    headers = {"content-type": "image/png", **server.client._extra_headers}
    answer = server.client._http.post(url, params=parameters, data=DATA, headers=headers)
    assert answer.status_code == 200
    assert bucket.get_blob(name, **ONCE).content_type == "image/png"
    assert bucket.blob(name).download_as_bytes(**ONCE) == DATA


@pytest.mark.parametrize(
    "odd", ["../../escape", "a/../b", "..", "/absolute", "grün ☃ %2F ?&#+", "a//b", "~="]
)
def test_names_have_no_special_meaning(bucket: storage.Bucket, name: str, odd: str) -> None:
    create(bucket, f"{name}/{odd}")
    assert bucket.blob(f"{name}/{odd}").download_as_bytes(**ONCE) == DATA
    assert [blob.name for blob in bucket.list_blobs(prefix=f"{name}/", **ONCE)] == [f"{name}/{odd}"]


def test_a_body_without_its_end_creates_nothing(
    server: Server, bucket: storage.Bucket, name: str
) -> None:
    """A multipart body whose closing delimiter is missing was cut off."""
    body = (
        b"--B\r\ncontent-type: application/json\r\n\r\n"
        + b'{"name": "%s"}' % name.encode()
        + b"\r\n--B\r\ncontent-type: text/plain\r\n\r\n"
        + DATA
    )
    answer = server.client._http.post(
        f"{server.endpoint}/upload/storage/v1/b/{bucket.name}/o?uploadType=multipart",
        data=body,
        headers={"content-type": "multipart/related; boundary=B", **server.client._extra_headers},
    )
    assert answer.status_code == 400
    assert not exists(bucket, name)


# Checksums


@pytest.mark.parametrize(
    ("member", "value"), [("crc32c", "AAAAAA=="), ("md5_hash", "AAAAAAAAAAAAAAAAAAAAAA==")]
)
def test_an_upload_with_another_checksum_creates_nothing(
    bucket: storage.Bucket, name: str, member: str, value: str
) -> None:
    blob = bucket.blob(name)
    setattr(blob, member, value)
    with pytest.raises(BadRequest):
        blob.upload_from_string(DATA, checksum=None, **ONCE)
    assert not exists(bucket, name)


def test_a_read_reports_the_checksum(bucket: storage.Bucket, name: str) -> None:
    create(bucket, name)
    blob = bucket.blob(name)
    blob.download_as_bytes(raw_download=True, checksum="crc32c", **ONCE)
    assert (blob.crc32c, blob.md5_hash) == (crc32c(DATA), md5(DATA))


# Preconditions and races


def test_an_object_is_created_once(bucket: storage.Bucket, name: str) -> None:
    create(bucket, name, b"first", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        create(bucket, name, b"second", if_generation_match=0)
    assert bucket.blob(name).download_as_bytes(**ONCE) == b"first"


def test_an_object_is_replaced_at_its_generation_only(bucket: storage.Bucket, name: str) -> None:
    with pytest.raises(PreconditionFailed):
        create(bucket, name, if_generation_match=1)
    assert not exists(bucket, name)
    first = create(bucket, name, b"first").generation
    second = create(bucket, name, b"second", if_generation_match=first).generation
    assert second > first
    with pytest.raises(PreconditionFailed):
        create(bucket, name, b"third", if_generation_match=first)
    assert bucket.blob(name).download_as_bytes(**ONCE) == b"second"


def test_exactly_one_of_many_concurrent_creators_succeeds(
    bucket: storage.Bucket, name: str
) -> None:
    start = threading.Barrier(16)

    def race(number: int) -> int | None:
        start.wait()
        try:
            create(bucket, name, bytes([number]) * 50_000, if_generation_match=0)
        except PreconditionFailed:
            return None
        return number

    with ThreadPoolExecutor(16) as pool:
        winners = [number for number in pool.map(race, range(16)) if number is not None]
    assert len(winners) == 1
    assert bucket.blob(name).download_as_bytes(**ONCE) == bytes(winners) * 50_000


def test_a_read_requires_the_given_generation(bucket: storage.Bucket, name: str) -> None:
    generation = create(bucket, name).generation
    blob = bucket.blob(name)
    assert blob.download_as_bytes(if_generation_match=generation, **ONCE) == DATA
    blob.reload(if_generation_match=generation, **ONCE)
    for read in (blob.download_as_bytes, blob.reload):
        with pytest.raises(PreconditionFailed):
            read(if_generation_match=1, **ONCE)


def test_an_object_is_deleted_at_its_generation_only(bucket: storage.Bucket, name: str) -> None:
    blob = create(bucket, name)
    with pytest.raises(PreconditionFailed):
        bucket.blob(name).delete(if_generation_match=1, **ONCE)
    assert exists(bucket, name)
    bucket.blob(name).delete(if_generation_match=blob.generation, **ONCE)
    assert not exists(bucket, name)
    with pytest.raises(NotFound):
        bucket.blob(name).delete(**ONCE)


def test_a_deleted_object_is_gone(bucket: storage.Bucket, name: str) -> None:
    """From reads and listings; its name can be used again, with a new generation."""
    first = create(bucket, name).generation
    bucket.blob(name).delete(**ONCE)
    with pytest.raises(NotFound):
        bucket.blob(name).download_as_bytes(**ONCE)
    assert list(bucket.list_blobs(prefix=name, **ONCE)) == []
    assert list(bucket.list_blobs(prefix=name, versions=True, **ONCE)) == []
    assert create(bucket, name, if_generation_match=0).generation > first


# Reads


def test_a_range_of_an_object_is_read(bucket: storage.Bucket, name: str) -> None:
    create(bucket, name, b"0123456789")
    blob = bucket.blob(name)
    assert blob.download_as_bytes(start=2, end=4, **ONCE) == b"234"
    assert blob.download_as_bytes(start=7, **ONCE) == b"789"
    with pytest.raises(RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10, **ONCE)


def test_an_object_is_read_in_chunks(bucket: storage.Bucket, name: str) -> None:
    data = DATA * 60
    create(bucket, name, data)
    assert bucket.blob(name, chunk_size=262_144).download_as_bytes(**ONCE) == data


def test_a_missing_object_differs_from_a_missing_bucket(
    server: Server, bucket: storage.Bucket, name: str
) -> None:
    """By the text on which the erasure marker depends."""
    for read in (
        lambda: bucket.blob(name).reload(**ONCE),
        lambda: bucket.blob(name).download_as_bytes(**ONCE),
        lambda: bucket.blob(name).delete(**ONCE),
    ):
        with pytest.raises(NotFound) as caught:
            read()
        assert is_missing_object(caught.value)
    elsewhere = server.client.bucket(f"{bucket.name}-that-does-not-exist")
    with pytest.raises(GoogleAPICallError) as other:
        elsewhere.blob(name).reload(**ONCE)
    assert not is_missing_object(other.value)


# Listings


def test_a_listing_has_pages_in_order(bucket: storage.Bucket, name: str) -> None:
    names = [f"{name}/{number}" for number in (3, 1, 5, 2, 4)]
    for each in (*names, f"{name}.other"):
        create(bucket, each, b"x")
    fields = "items(name,size),nextPageToken"
    found = bucket.list_blobs(prefix=f"{name}/", page_size=2, fields=fields, **ONCE)
    pages = [[blob.name for blob in page] for page in found.pages]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [each for page in pages for each in page] == sorted(names)


def test_a_listing_with_a_delimiter_shows_folders(bucket: storage.Bucket, name: str) -> None:
    for leaf in ("a", "b/1", "b/2", "c/1", "d"):
        create(bucket, f"{name}/{leaf}", b"x")
    found = bucket.list_blobs(prefix=f"{name}/", delimiter="/", page_size=2, **ONCE)
    assert [blob.name for blob in found] == [f"{name}/a", f"{name}/d"]
    assert found.prefixes == {f"{name}/b/", f"{name}/c/"}

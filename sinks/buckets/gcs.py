"""A private bucket of Google Cloud Storage, or a local one, through the real client.

Rules, all of them:

* An object is created once, or `AlreadyExists`; it is sent and read in one request, with checksums
  both ways (`object_transfer.py`).  Many are deleted in one request (`batch_deletion.py`).
* Every operation has a deadline.  No byte of a put is sent after its deadline has passed, so
  an erasure knows when the last put that began before it has ended.
* No retries of the library's own: the caller retries, after deciding again.
* The library's errors do not pass `bucket_operations.py`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Self

from google.api_core.exceptions import GoogleAPICallError

from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import (
    BucketAccessDenied,
    InvariantBroken,
    NotFound,
    UnsafeBucket,
)
from erasestream.sinks.buckets.access_policy import Action, Rule
from erasestream.sinks.buckets.access_probe import Granted, attempt
from erasestream.sinks.buckets.batch_deletion import MAX_PARTS, BatchDeletion
from erasestream.sinks.buckets.bucket_operations import BucketOperations, is_missing_object
from erasestream.sinks.buckets.bucket_privacy import deviations, read_configuration
from erasestream.sinks.buckets.gcs_client import GcsSettings, open_client
from erasestream.sinks.buckets.http_transport import OperationDeadline
from erasestream.sinks.buckets.object_store import ObjectInfo
from erasestream.sinks.buckets.object_transfer import ObjectTransfer

PUT_DEADLINE_S = 20.0
"""A put begins no block after this."""
OPERATION_DEADLINE_S = 60.0
"""Deadline of any other operation, and of each page of a listing."""
TIMEOUT_S = (5.0, 20.0)
"""Longest silence of the bucket: while it connects or takes bytes, and while it answers."""
PUT_ENDS_S = PUT_DEADLINE_S + sum(TIMEOUT_S)
"""A put has ended in the bucket, too: its last block was taken, and the answer was due.

The client closes the connection then, and a bucket that has decided nothing by then does not any
more.  An erasure waits for it (design, section 6).
"""
PAGE = 1000


class GcsObjectStore:
    """An `ObjectStore` over one bucket.  Thread-safe."""

    def __init__(self, settings: GcsSettings, *, clock: Clock = time.monotonic) -> None:
        """Create the client; it does not connect yet.

        Raises `Refused` for settings that cannot work.
        """
        self._max_object_bytes = settings.max_object_bytes
        self._deadline = OperationDeadline(clock)
        session, self._client = open_client(settings, self._deadline)
        self._transfer = ObjectTransfer(
            session,
            endpoint=settings.endpoint,
            bucket=settings.bucket,
            deadline=self._deadline,
            timeout=TIMEOUT_S,
        )
        self._batches = BatchDeletion(
            session, endpoint=settings.endpoint, bucket=settings.bucket, timeout=TIMEOUT_S
        )
        self._bucket = self._client.bucket(settings.bucket)
        self._operations = BucketOperations(settings.bucket, self._deadline)

    def check(self, rules: Iterable[Rule]) -> None:
        """Verify by attempts that the bucket grants what the rules say; for the start.

        Raises `Refused` with the first right that is missing, `Unavailable` if the bucket cannot
        be reached.
        """
        rights = [(action, rule.prefix) for rule in rules for action in rule.actions]
        # First to list: without it, a right to read or delete looks as if it were missing.
        for action, prefix in sorted(rights, key=lambda right: right[0] is not Action.LIST):
            try:
                with self._operations.run(OPERATION_DEADLINE_S, absent=NotFound):
                    attempt(self._bucket, action, prefix, timeout=TIMEOUT_S, retry=None)
            except Granted:
                continue
            except BucketAccessDenied as error:
                raise BucketAccessDenied(f"{error.detail}: {action} on {prefix}*") from error

    def verify_private(self) -> None:
        """Verify that the bucket is private and forgets; for the start of a role that writes.

        Raises `UnsafeBucket` with each deviation and the command that corrects it.
        """
        with self._operations.run(OPERATION_DEADLINE_S, absent=self._operations.missing):
            found = read_configuration(self._bucket, timeout=TIMEOUT_S, retry=None)
        if wrong := list(deviations(self._bucket.name, found)):
            raise UnsafeBucket("; ".join(wrong))

    def create(self, name: str, data: bytes, content_type: str) -> datetime | None:
        """Create the object, or raise `AlreadyExists`; completed or abandoned within 20 s."""
        if len(data) > self._max_object_bytes:
            raise InvariantBroken("the object exceeds the size limit")
        with self._operations.run(PUT_DEADLINE_S, absent=self._operations.missing):
            return self._transfer.create(name, data, content_type)

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return all bytes of an object, or raise `NotFound`."""
        with self._operations.run(OPERATION_DEADLINE_S, absent=NotFound):
            return self._transfer.read(name, max_bytes)

    def exists(self, name: str) -> bool:
        """Return whether the object exists, as of now."""
        with self._operations.run(OPERATION_DEADLINE_S, absent=NotFound):
            # The client's own exists() does not distinguish a missing bucket from a missing object.
            try:
                self._bucket.blob(name).reload(timeout=TIMEOUT_S, retry=None)
            except GoogleAPICallError as error:
                if is_missing_object(error):
                    return False
                raise
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose name begins with `prefix`, in the order of their names."""
        for page in self._pages(prefix, fields="items(name,size,timeCreated),nextPageToken"):
            for blob in page:
                yield ObjectInfo(blob.name, blob.size, blob.time_created)

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield once each text between `prefix` and the next slash, in their order."""
        for page in self._pages(prefix, fields="prefixes,nextPageToken", delimiter="/"):
            yield from (name[len(prefix) : -1] for name in sorted(page.prefixes))

    def _pages(self, prefix: str, **options: str) -> Iterator[Any]:
        pages = self._client.list_blobs(
            self._bucket,
            prefix=prefix,
            page_size=PAGE,
            timeout=TIMEOUT_S,
            retry=None,
            **options,
        ).pages
        while True:
            with self._operations.run(OPERATION_DEADLINE_S, absent=self._operations.missing):
                page = next(pages, None)
            if page is None:
                return
            yield page

    def delete(self, name: str) -> None:
        """Delete the object, or raise `NotFound`."""
        with self._operations.run(OPERATION_DEADLINE_S, absent=NotFound):
            self._bucket.blob(name).delete(timeout=TIMEOUT_S, retry=None)

    def delete_all(self, names: Sequence[str]) -> None:
        """Delete the objects, a hundred in one request; one that does not exist is deleted."""
        for at in range(0, len(names), MAX_PARTS):
            with self._operations.run(OPERATION_DEADLINE_S, absent=NotFound):
                self._batches.delete(names[at : at + MAX_PARTS])

    def close(self) -> None:
        """Close all connections.  Idempotent."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

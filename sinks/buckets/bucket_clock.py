"""The time of day by a bucket's clock: when it created an object that was just written."""

import secrets
from contextlib import suppress
from datetime import datetime

from erasestream.schemas.errors import Code, NotFound, Unavailable
from erasestream.sinks.buckets.object_store import ObjectStore

OCTETS = "application/octet-stream"


class BucketClock:
    """A clock that is set apart from this machine's."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        """`prefix`: of the names of its objects, and of no others."""
        self._store = store
        self._prefix = prefix

    def __call__(self) -> datetime:
        """Return the time.  Raises `Unavailable`."""
        name = f"{self._prefix}{secrets.token_hex(16)}"
        created = self._store.create(name, b"", OCTETS)
        # And what a killed process left: others have read their answer, and need no object.
        for found in list(self._store.list(self._prefix)):
            with suppress(NotFound):
                self._store.delete(found.name)
        if created is None:
            raise Unavailable("the bucket does not say when", Code.BUCKET_UNAVAILABLE)
        return created

"""The part of a bucket that the sinks use.

Objects are written once and never overwritten.  An error determines what happens next:
`Unavailable` is retried, `Refused` ends the process, `NotFound` and `AlreadyExists` are answers.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol


class ObjectInfo(NamedTuple):
    """An object in a listing."""

    name: str
    size: int  # bytes
    created: datetime


class ObjectReader(Protocol):
    """Read access to a bucket."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return all bytes of an object, checked against the bucket's checksum.

        Raises `NotFound`, and `SealBroken` for an object above `max_bytes`, which is never
        read to the end: no object sealed by the rules is that large.
        """

    def exists(self, name: str) -> bool:
        """Return whether the object exists, as of now (strongly consistent)."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose name begins with `prefix`, in the order of their names."""


class ObjectStore(ObjectReader, Protocol):
    """A private bucket."""

    def create(self, name: str, data: bytes, content_type: str) -> datetime | None:
        """Create the object: all of it, durably, or nothing; return when, by the bucket's clock.

        Of any number of creators of one name exactly one returns; the others raise
        `AlreadyExists` and change nothing.
        """

    def delete(self, name: str) -> None:
        """Delete the object.  Raises `NotFound` if there is none."""


class BulkStore(ObjectStore, Protocol):
    """A private bucket in which many objects are deleted at once."""

    def delete_all(self, names: Sequence[str]) -> None:
        """Delete the objects; one that does not exist is deleted already.

        If it raises, some of them may be deleted.
        """


class FolderedStore(ObjectStore, Protocol):
    """A private bucket whose names have folders."""

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield once each text between `prefix` and the next slash, in their order.

        However many objects a folder has, it takes part of one request.
        """

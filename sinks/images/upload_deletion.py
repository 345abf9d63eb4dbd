"""Delete what is kept of single uploads, and remember what was deleted.

    erased/uploads/<owner>/<upload>           the tombstone (`erased_uploads.py`)
    erased/notes/<owner>/<upload>/<digest>    SHA-256 of the names of objects, as for grants

Rules, all of them:

* The tombstone exists before anything is deleted, and is never removed.
* Objects are deleted under every grant of the owner that the bucket shows, whether the ledger
  has it or not.  Grants are folders: the bucket lists these, and then the objects of the upload.
* An object is deleted only after its note exists.  One that is gone already is deleted.
"""

import hashlib
import threading
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from erasestream.schemas.errors import AlreadyExists, Code, NotFound, Unavailable
from erasestream.schemas.ids import UploadId
from erasestream.sinks.buckets.object_store import FolderedStore, ObjectStore
from erasestream.sinks.images.deletion import (
    DIGEST_BYTES,
    MAX_OBJECTS,
    objects_root,
    split_digests,
)
from erasestream.sinks.keys.erased_uploads import tombstone_name
from erasestream.sinks.keys.key_vault import OCTETS

NOTES = "erased/notes/"


class KeptUpload(NamedTuple):
    """An upload as its pictures' names have it (`ObjectNamer`)."""

    owner: str
    upload: UploadId

    @property
    def stored_as(self) -> str:
        """SHA-256 of the tombstone's name."""
        return hashlib.sha256(tombstone_name(*self).encode()).hexdigest()


class DeletedUpload(NamedTuple):
    """All that was ever deleted of an upload."""

    objects: int
    objects_root: str
    """Merkle root (RFC 6962) over the SHA-256 of each object's name, in ascending order."""


class UploadDeletion:
    """Deletes in the image bucket.  Thread-safe.

    Once `stopping` is set, nothing more is deleted.
    """

    def __init__(
        self, *, vault: ObjectStore, images: FolderedStore, stopping: threading.Event
    ) -> None:
        self._vault = vault
        self._images = images
        self._stopping = stopping

    def mark(self, kept: KeptUpload) -> None:
        """Create the tombstone.  Once this returns, every later look sees it.  Idempotent.

        Raises `Unavailable`: repeat it, here and below.
        """
        self._create(tombstone_name(*kept), b"")

    def delete(self, kept: KeptUpload) -> int:
        """Delete up to `MAX_OBJECTS` objects of each grant; return how many were there."""
        found = 0
        for grant in self._images.folders(f"{kept.owner}/"):
            listed = self._images.list(f"{kept.owner}/{grant}/{kept.upload}.")
            names = [info.name for info in islice(listed, MAX_OBJECTS)]
            if names:
                self._note(kept, names)
            for name in names:
                self._delete(name)
            found += len(names)
        return found

    def deleted(self, kept: KeptUpload) -> DeletedUpload:
        """Return what the notes say."""
        digests = set[bytes]()
        for found in self._vault.list(_notes(kept)):
            digests |= split_digests(self._vault.read(found.name, MAX_OBJECTS * DIGEST_BYTES))
        return DeletedUpload(len(digests), objects_root(digests))

    def _note(self, kept: KeptUpload, names: list[str]) -> None:
        note = b"".join(sorted(hashlib.sha256(name.encode()).digest() for name in names))
        self._create(f"{_notes(kept)}{hashlib.sha256(note).hexdigest()}", note)

    def _create(self, name: str, content: bytes) -> None:
        with suppress(AlreadyExists):
            self._vault.create(name, content, OCTETS)

    def _delete(self, name: str) -> None:
        if self._stopping.is_set():
            raise Unavailable("the eraser is to stop", Code.CLOSED)
        with suppress(NotFound):
            self._images.delete(name)


def _notes(kept: KeptUpload) -> str:
    return f"{NOTES}{kept.owner}/{kept.upload}/"

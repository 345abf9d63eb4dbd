"""Delete the keys and objects of erased grants, and remember what was deleted.

    erased/<grant>/keys/<master version>    a key of the grant that is or was about to be deleted
    erased/<grant>/objects/<digest>         SHA-256 of the names of up to 1,000 objects, likewise

Rules, all of them:

* The marker exists before anything is deleted; keys go before objects.
* A key or object is deleted only after its note exists, so that whatever is killed, and however
  many delete at the same time, the notes have all that was deleted.
* A key or object that is gone already is deleted.
* The notes stay in the vault.  They contain no picture's name, only hashes of names.
"""

import hashlib
import re
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from erasestream.schemas.errors import AlreadyExists, Code, NotFound, Unavailable
from erasestream.schemas.events.ledger import MASTER_NAME_PATTERN, MAX_MASTERS, OTHERS
from erasestream.schemas.ids import GrantId
from erasestream.sinks.buckets.object_store import BulkStore, ObjectReader, ObjectStore
from erasestream.sinks.keys.key_vault import OCTETS, key_prefix, marker_name
from erasestream.sinks.log.merkle import EMPTY_ROOT, fold, leaf_hash

MAX_OBJECTS = 1_000
"""Objects that are deleted at a time: those of one page of a listing."""
MAX_BATCH = 100
"""Objects that are deleted in one request; the eraser stops between two."""
MAX_PARALLEL = 4
"""Such requests, for all grants, at the same time."""
DIGEST_BYTES = 32
KEYS = "keys/"
OBJECTS = "objects/"


class Found(NamedTuple):
    """Number of keys and objects that were there, and were deleted."""

    keys: int
    objects: int


class Deleted(NamedTuple):
    """All that was ever deleted of a grant."""

    keys: tuple[str, ...]
    """Versions of the master key under which the grant's keys were wrapped, or `OTHERS`.

    As many as an entry lists.  `OTHERS` stands for the rest, and for what no keyring has named.
    """
    objects: int
    objects_root: str
    """Merkle root (RFC 6962) over the SHA-256 of each object's name, in ascending order."""


class GrantDeletion:
    """Deletes in both buckets.  Thread-safe.

    Once `stopping` is set, nothing more is deleted.
    """

    def __init__(self, *, vault: ObjectStore, images: BulkStore, stopping: threading.Event) -> None:
        self._vault = vault
        self._images = images
        self._stopping = stopping
        self._pool = ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix="delete")

    def delete(self, grant: GrantId, owner: str) -> Found:
        """Delete the grant's keys, and up to `MAX_OBJECTS` of its objects.

        The grant is marked as erased; `owner` is the first part of its objects' names.
        Raises `Unavailable`: repeat it.
        """
        return Found(self._delete_keys(grant), self._delete_objects(grant, owner))

    def count(self, grant: GrantId, owner: str) -> int:
        """Return how many objects there are.  Raises `Unavailable`."""
        return sum(1 for _ in self._images.list(f"{owner}/{grant}/"))

    def deleted(self, grant: GrantId) -> Deleted:
        """Return what the notes say."""
        return read_notes(self._vault, grant)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _delete_keys(self, grant: GrantId) -> int:
        names = [found.name for found in self._vault.list(key_prefix(grant))]
        for name in names:
            version = _version(name.removeprefix(key_prefix(grant)))
            self._note(f"{marker_name(grant)}/{KEYS}{version}", b"")
            self._check_stopping()
            with suppress(NotFound):
                self._vault.delete(name)
        return len(names)

    def _delete_objects(self, grant: GrantId, owner: str) -> int:
        found = self._images.list(f"{owner}/{grant}/")
        names = [each.name for each in islice(found, MAX_OBJECTS)]
        if names:
            digests = sorted(hashlib.sha256(name.encode()).digest() for name in names)
            note = b"".join(digests)
            digest = hashlib.sha256(note).hexdigest()
            self._note(f"{marker_name(grant)}/{OBJECTS}{digest}", note)
            batches = [names[at : at + MAX_BATCH] for at in range(0, len(names), MAX_BATCH)]
            list(self._pool.map(self._delete_batch, batches))
        return len(names)

    def _note(self, name: str, content: bytes) -> None:
        with suppress(AlreadyExists):
            self._vault.create(name, content, OCTETS)

    def _delete_batch(self, names: Sequence[str]) -> None:
        self._check_stopping()
        self._images.delete_all(names)

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise Unavailable("the eraser is to stop", Code.CLOSED)


def read_notes(vault: ObjectReader, grant: GrantId) -> Deleted:
    """Return what the notes about a grant say."""
    prefix = f"{marker_name(grant)}/"
    keys, digests = list[str](), set[bytes]()
    for found in vault.list(prefix):
        kind = found.name.removeprefix(prefix)
        if kind.startswith(KEYS):
            keys.append(_version(kind.removeprefix(KEYS)))
        elif kind.startswith(OBJECTS):
            note = vault.read(found.name, MAX_OBJECTS * DIGEST_BYTES)
            digests |= split_digests(note)
    return Deleted(_listed(keys), len(digests), objects_root(digests))


def _version(name: str) -> str:
    return name if re.fullmatch(MASTER_NAME_PATTERN, name) else OTHERS


def _listed(versions: Collection[str]) -> tuple[str, ...]:
    known = tuple(dict.fromkeys(each for each in versions if each != OTHERS))
    if len(known) <= MAX_MASTERS and OTHERS not in versions:
        return known
    return (*known[: MAX_MASTERS - 1], OTHERS)


def objects_root(digests: Collection[bytes]) -> str:
    """Return the Merkle root over hashes of objects' names, which a receipt states."""
    root = fold([leaf_hash(each) for each in sorted(digests)]) if digests else EMPTY_ROOT
    return root.hex()


def split_digests(note: bytes) -> set[bytes]:
    """Return the hashes that a note has."""
    return {note[at : at + DIGEST_BYTES] for at in range(0, len(note), DIGEST_BYTES)}

"""Listing and opening of retained pictures, for a training service.

It needs no name key: it sees which pictures have the same owner, never who that is.

Once the marker of a grant exists, whether its objects are deleted yet or not:

* No picture of it is opened.  `open` reads the marker after the picture has arrived, and
  decrypts at once; it raises `Erased` even if it was called before the marker was created.
* No listing that begins then contains it; one that began before omits it after 5 s.
* Iterating over `pictures` hands out none of it after 5 s (`retained_pictures.py`).

The same holds for the tombstone of an upload, which is noticed within 5 s.
"""

from collections.abc import Iterable, Iterator

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Erased, NotFound, SealBroken, Unavailable
from erasestream.schemas.ids import GrantId
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.schemas.sealing.envelope import MAX_SEALED_BYTES, Opened, open_sealed
from erasestream.schemas.sealing.recipients import GrantRecipient
from erasestream.sinks.buckets.object_store import ObjectInfo, ObjectReader
from erasestream.sinks.images.object_names import StoredName
from erasestream.sinks.images.retained_pictures import (
    PATIENCE_S,
    RetainedObject,
    RetainedPictures,
    Selection,
)
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S, KeyVaultReader
from erasestream.topics.kafka.backoff import Backoff

UNKNOWN_TYPE = "application/octet-stream"


THREADS = 8
MAX_BYTES = 64_000_000


class RetainedReader:
    """Lists and opens retained pictures."""

    def __init__(self, *, store: ObjectReader, vault: KeyVaultReader, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

    def pictures(
        self,
        selection: Selection = Selection(),  # noqa: B008 (immutable)
        *,
        threads: int = THREADS,
        max_bytes: int = MAX_BYTES,
    ) -> RetainedPictures:
        """Return the selected pictures, to iterate over once.

        They are fetched by so many threads, at most `max_bytes` ahead.  A picture that is erased
        is skipped within 5 s, also if it was fetched before.
        """
        return RetainedPictures(
            self._selected(selection), self, threads=threads, max_bytes=max_bytes, clock=self._clock
        )

    def list(self, owner: str = "") -> Iterator[RetainedObject]:
        """Yield the pictures of grants that are not erased, in the order of their names.

        Of all owners, or of one.  Objects with another kind of name are left out.
        """
        current, erased, since_s = GrantId(""), False, 0.0
        for info in self._store.list(f"{owner}/" if owner else ""):
            try:
                name = StoredName.parse(info.name)
            except SealBroken:
                continue
            now_s = self._clock()
            if name.grant != current or now_s - since_s >= CACHE_LIMIT_S:
                current, erased, since_s = name.grant, self._vault.is_erased(name.grant), now_s
            if not erased and self._is_kept(name):
                yield _object(info, name)

    def open(self, name: str) -> Opened:
        """Return content type and bytes of a picture.

        The type is that of the bytes: an uploader wrote the one in the envelope.
        Raises `Erased` if its grant or its upload is erased, `NotFound` if object or key does not
        exist, `SealBroken` if the object is not the picture that its name denotes.
        """
        expected = StoredName.parse(name)
        try:
            sealed = self._store.read(name, MAX_SEALED_BYTES)
        except NotFound:
            self._assert_kept(expected)  # deleted because it is erased
            raise
        # After the picture: this reads the marker, and reading a picture can take a minute.
        self._vault.uploads.assert_kept(expected.owner, expected.upload_id)
        return _opened(expected, sealed, self._vault.keys(expected.grant))

    def fetch(self, found: RetainedObject) -> bytes:
        """Return a sealed picture that was not erased 5 s ago.  Raises as `open` does."""
        self._vault.recent_keys(found.grant)
        try:
            return self._store.read(found.name, MAX_SEALED_BYTES)
        except NotFound:
            self._assert_kept(StoredName.parse(found.name))  # deleted because it is erased
            raise

    def verify_kept(self, found: RetainedObject) -> None:
        """Raise `NotFound` unless the object exists, as of now; `Erased` if it is erased."""
        if not self._store.exists(found.name):
            self._assert_kept(StoredName.parse(found.name))
            raise NotFound

    def unseal(self, found: RetainedObject, sealed: bytes) -> Opened:
        """Open a picture that was not erased 5 s ago.  Raises as `open` does."""
        name = StoredName.parse(found.name)
        self._vault.uploads.assert_kept(name.owner, name.upload_id)
        return _opened(name, sealed, self._vault.recent_keys(found.grant))

    def _assert_kept(self, name: StoredName) -> None:
        """Raise `Erased` if the grant, or the upload, of this name is erased."""
        self._vault.assert_not_erased(name.grant)
        self._vault.uploads.assert_kept(name.owner, name.upload_id)

    def _is_kept(self, name: StoredName) -> bool:
        try:
            self._vault.uploads.assert_kept(name.owner, name.upload_id)
        except Erased:
            return False
        return True

    def _selected(self, selection: Selection) -> Iterator[RetainedObject]:
        for info in self._listed():
            try:
                found = _object(info, StoredName.parse(info.name))
            except SealBroken:
                continue
            if selection.includes(found):
                yield found

    def _listed(self) -> Iterator[ObjectInfo]:
        """List all objects; after an outage from the beginning, without those that were listed."""
        last, backoff, patience = "", Backoff(), Deadline(PATIENCE_S, self._clock)
        while True:
            try:
                for info in self._store.list(""):
                    if info.name > last:
                        last = info.name
                        yield info
                        backoff.reset()
                        patience = Deadline(PATIENCE_S, self._clock)
            except Unavailable:
                if patience.has_passed:
                    raise
            else:
                return
            backoff.pause(patience)


def _object(info: ObjectInfo, name: StoredName) -> RetainedObject:
    return RetainedObject(info.name, name.grant, name.upload_id, name.part, info.size, info.created)


def _opened(name: StoredName, sealed: bytes, keys: Iterable[bytes]) -> Opened:
    for key in keys:
        grant = GrantRecipient(name.grant, key, str(name))
        try:
            opened = open_sealed(sealed, upload=None, part=name.part, opener=grant)
        except SealBroken:
            continue  # the other key of a raced creation: the block opens under one of them
        kind = sniff_content_type(opened.plaintext) or UNKNOWN_TYPE
        return Opened(kind, opened.plaintext)
    raise SealBroken

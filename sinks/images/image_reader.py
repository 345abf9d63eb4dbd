"""Listing and opening of retained pictures, for a training service.

It needs no name key: it sees which pictures have the same owner, never who that is.

Once the marker of a grant exists, whether its objects are deleted yet or not:

* No picture of it is opened.  `open` reads the marker after the picture has arrived, and
  decrypts at once; it raises `Erased` even if it was called before the marker was created.
* No listing that begins then contains it; one that began before omits it after 5 s.
"""

from collections.abc import Iterator
from typing import NamedTuple

from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import NotFound, SealBroken
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import GrantId, UploadId
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.schemas.sealing.envelope import MAX_SEALED_BYTES, Opened, open_sealed
from erasestream.schemas.sealing.recipients import GrantRecipient
from erasestream.sinks.buckets.object_store import ObjectReader
from erasestream.sinks.images.object_names import StoredName
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S, KeyVaultReader

UNKNOWN_TYPE = "application/octet-stream"


class RetainedObject(NamedTuple):
    """A retained picture in a listing; `size` is that of the sealed object, in bytes."""

    name: str
    grant: GrantId
    upload_id: UploadId
    part: Part
    size: int


class RetainedReader:
    """Lists and opens retained pictures."""

    def __init__(self, *, store: ObjectReader, vault: KeyVaultReader, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

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
            if not erased:
                yield RetainedObject(info.name, name.grant, name.upload_id, name.part, info.size)

    def open(self, name: str) -> Opened:
        """Return content type and bytes of a picture.

        The type is that of the bytes: an uploader wrote the one in the envelope.
        Raises `Erased` if its grant is erased, `NotFound` if object or key does not exist,
        `SealBroken` if the object is not the picture that its name denotes.
        """
        expected = StoredName.parse(name)
        try:
            sealed = self._store.read(name, MAX_SEALED_BYTES)
        except NotFound:
            self._vault.assert_not_erased(expected.grant)  # deleted because it is erased
            raise
        # After the picture: this reads the marker, and reading a picture can take a minute.
        part = expected.part
        for key in self._vault.keys(expected.grant):
            grant = GrantRecipient(expected.grant, key, name)
            try:
                opened = open_sealed(sealed, upload=None, part=part, opener=grant)
            except SealBroken:
                continue  # the other key of a raced creation: the block opens under one of them
            kind = sniff_content_type(opened.plaintext) or UNKNOWN_TYPE
            return Opened(kind, opened.plaintext)
        raise SealBroken

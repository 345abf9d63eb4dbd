"""How a training service lists and opens what is retained.

It needs no name key: it sees whose pictures belong together, never whose they are.  A grant
that is erased is not listed and does not open, at most 5 s after its marker stands, whether
its objects are deleted yet or not.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from erasestream.schemas.errors import SealBroken
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import GrantId, UploadId
from erasestream.sinks.buckets.object_store import ObjectReader
from erasestream.sinks.images.envelope import MAX_SEALED_BYTES, Opened, open_sealed
from erasestream.sinks.images.object_names import StoredName
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S, KeyVaultReader

Clock = Callable[[], float]


class RetainedObject(NamedTuple):
    """A retained picture in a listing; `size` is that of the sealed object, in bytes."""

    name: str
    grant: GrantId
    upload_id: UploadId
    part: Part
    size: int


class RetainedReader:
    """Lists and opens retained pictures.  `clock` gives seconds that only grow."""

    def __init__(self, *, store: ObjectReader, vault: KeyVaultReader, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

    def list(self, owner: str = "") -> Iterator[RetainedObject]:
        """The pictures of living grants, all or of one owner, in the order of their names.

        What has another kind of name is not ours to open and is left out.
        """
        current, erased, since = GrantId(""), False, 0.0
        for info in self._store.list(f"{owner}/" if owner else ""):
            try:
                name = StoredName.parse(info.name)
            except SealBroken:
                continue
            now = self._clock()
            if name.grant != current or now - since >= CACHE_LIMIT_S:
                current, erased, since = name.grant, self._vault.is_erased(name.grant), now
            if not erased:
                yield RetainedObject(info.name, name.grant, name.upload_id, name.part, info.size)

    def open(self, name: str) -> Opened:
        """Content type and bytes of a picture.

        Raises `Erased` if its grant is, `NotFound` if object or key is not there,
        `SealBroken` if the object is not the picture that its name says.
        """
        expected = StoredName.parse(name)
        self._vault.keys(expected.grant)
        sealed = self._store.read(name, MAX_SEALED_BYTES)
        # Asked again: reading may have taken longer than an answer is believed.
        for key in self._vault.keys(expected.grant):
            try:
                return open_sealed(
                    sealed, grant_key=key, grant=expected.grant, part=expected.part, name=name
                )
            except SealBroken:
                continue  # the other key of a raced creation; the commitment tells which
        raise SealBroken

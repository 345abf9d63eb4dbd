"""The encryption sink: a retained picture becomes a sealed object, once.

    check consent (the stage) -> key of the grant -> seal -> create -> check the marker -> commit

Nothing is written before it is sealed.  A record that comes again is sealed again and finds
its name taken: that is success, without any right to read.
"""

from erasestream.schemas.errors import AlreadyExists
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import GrantId
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.images.envelope import seal
from erasestream.sinks.images.object_names import ObjectNamer, StoredName
from erasestream.sinks.keys.key_vault import KeyVault

OCTETS = "application/octet-stream"
"""The content type of every object; the picture's own is sealed with it."""


class EncryptionSink:
    """Stores retained pictures.  Thread-safe if its store and its vault are."""

    def __init__(self, *, store: ObjectStore, vault: KeyVault, name_key: bytes) -> None:
        """`name_key`: the 32 secret bytes that names are made with; never change them."""
        self._store = store
        self._vault = vault
        self._namer = ObjectNamer(name_key)

    def store(self, event: Retained) -> StoredName:
        """Seal the picture under its grant's key and create its object, or find it created.

        The caller has checked that the grant is in force, and checks `assert_not_erased`
        before it commits.  Raises `Erased` if the grant is: drop the record.
        """
        name = self._namer.name(event)
        key = self._vault.key(event.grant)
        sealed = seal(
            event.data,
            grant_key=key,
            grant=event.grant,
            part=event.part,
            content_type=event.content_type,
            name=str(name),
        )
        # However long sealing took (a stopped process): the put begins within the limit.
        self._vault.key(event.grant)
        try:
            self._store.create(str(name), sealed, OCTETS)
        except AlreadyExists:
            return name
        return name

    def assert_not_erased(self, grant: GrantId) -> None:
        """Look at the erasure marker now; for each grant of a batch before its commit.

        Raises `Erased`: what was just stored under the grant is the eraser's to delete.
        """
        self._vault.assert_not_erased(grant)

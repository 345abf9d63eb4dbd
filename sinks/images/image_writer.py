"""Encryption sink: stores each retained picture as one sealed object.

    check consent (the stage) -> key of the grant -> seal -> create -> check the marker -> commit

Nothing is written before it is sealed.  A redelivered record is sealed again and its name
already exists: that is success, and needs no right to read.
"""

from erasestream.schemas.errors import AlreadyExists, ErasestreamError
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import GrantId
from erasestream.schemas.sealing.envelope import Context, seal
from erasestream.schemas.sealing.recipients import GrantRecipient
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.images.object_names import ObjectNamer, StoredName
from erasestream.sinks.keys.key_vault import KeyVault

OCTETS = "application/octet-stream"
"""The content type of every object; the picture's own is sealed with it."""


class EncryptionSink:
    """Stores retained pictures.  Thread-safe if its store and its vault are."""

    def __init__(self, *, store: ObjectStore, vault: KeyVault, name_key: bytes) -> None:
        """Create the sink.

        `name_key`: the 32 secret bytes that names derive from; never change them.
        """
        self._store = store
        self._vault = vault
        self._namer = ObjectNamer(name_key)

    def can_seal(self) -> bool:
        """Return whether the master key can be read, as of now."""
        try:
            self._vault.check_keyring()
        except ErasestreamError:
            return False
        return True

    def store(self, event: Retained) -> StoredName:
        """Seal the picture under its grant's key and create its object.  Idempotent.

        The caller has checked that the grant is in force, and calls `assert_not_erased`
        before it commits.  Raises `Erased` if the grant is erased: drop the record.
        """
        name = self._namer.name(event)
        key = self._vault.key(event.grant)
        sealed = seal(
            event.data,
            context=Context.of(event.id, event.part, event.content_type),
            recipients=[GrantRecipient(event.grant, key, str(name))],
        )
        # The put must begin within the cache limit, however long sealing took (a stopped process).
        self._vault.key(event.grant)
        try:
            self._store.create(str(name), sealed, OCTETS)
        except AlreadyExists:
            return name
        return name

    def assert_not_erased(self, grant: GrantId) -> None:
        """Read the erasure marker now; for each grant of a batch before its commit.

        Raises `Erased`: the eraser deletes what was just stored under the grant.
        """
        self._vault.assert_not_erased(grant)

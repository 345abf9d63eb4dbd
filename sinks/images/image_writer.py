"""Encryption sink: stores each retained picture as one sealed object.

    check consent (the stage) -> key of the grant -> seal, or replace the recipients
    -> check the upload's tombstone -> create -> check the marker -> commit

A picture that arrives sealed is never opened: the grant replaces its recipients, and its body stays
as it is (`capsule_keys.py` has its data key).  Any other is sealed before it is written.  A
redelivered record is sealed again and its name already exists: that is success, and needs no right
to read.
"""

import hashlib

from erasestream.schemas.errors import AlreadyExists, ErasestreamError, SealBroken
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import GrantId
from erasestream.schemas.sealing.content_type import is_sealed
from erasestream.schemas.sealing.envelope import (
    Context,
    replace_recipients,
    seal,
    upload_digest,
)
from erasestream.schemas.sealing.recipients import GrantRecipient
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.images.capsule_keys import CapsuleKeys, PictureBroken
from erasestream.sinks.images.object_names import ObjectNamer, StoredName
from erasestream.sinks.keys.key_vault import KeyVault

OCTETS = "application/octet-stream"
"""The content type of every object; the picture's own is sealed with it."""


class EncryptionSink:
    """Stores retained pictures.  Thread-safe if its store and its vault are."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        vault: KeyVault,
        name_key: bytes,
        capsules: CapsuleKeys | None = None,
    ) -> None:
        """Create the sink.

        `name_key`: the 32 secret bytes that names derive from; never change them.  `capsules`: None
        only where no lane seals.
        """
        self._store = store
        self._vault = vault
        self._namer = ObjectNamer(name_key)
        self._capsules = capsules

    def can_seal(self) -> bool:
        """Return whether the master key can be read, and the key service answers, as of now."""
        try:
            self._vault.check_keyring()
        except ErasestreamError:
            return False
        return self._capsules is None or self._capsules.is_available()

    def drop_dead_keys(self) -> None:
        """Drop the keys of epochs that have died."""
        if self._capsules is not None:
            self._capsules.drop_dead()

    def store(self, event: Retained) -> StoredName:
        """Seal the picture under its grant's key and create its object.  Idempotent.

        The caller has checked that the grant is in force, and calls `assert_not_erased`
        before it commits.  Raises `Erased` if the grant or the upload is erased, `KeyDead` if the
        key of the picture's hour is: drop the record.  Raises `PictureBroken` for a sealed picture
        that its capsule does not open.
        """
        self.drop_dead_keys()  # also while bucket or vault are unavailable, and this is tried again
        sha256 = hashlib.sha256(event.data).digest()
        name = self._namer.name(event, sha256)
        key = self._vault.key(event.grant)
        sealed = self._sealed(event, sha256, GrantRecipient(event.grant, key, str(name)))
        # The put must begin within the cache limit, however long sealing took (a stopped process).
        since_s = self._vault.uploads.assert_kept(name.owner, name.upload_id)
        self._vault.key(event.grant)
        self._vault.uploads.assert_recent(since_s)
        try:
            self._store.create(str(name), sealed, OCTETS)
        except AlreadyExists:
            return name
        return name

    def _sealed(self, event: Retained, sha256: bytes, grant: GrantRecipient) -> bytes:
        upload = upload_digest(event.lane, event.account, event.id)
        if not is_sealed(event.content_type):
            context = Context(upload, event.part, event.content_type)
            return seal(event.data, context=context, recipients=[grant])
        if self._capsules is None:
            raise PictureBroken
        try:
            return replace_recipients(
                event.data,
                upload=upload,
                part=event.part,
                data_key=self._capsules.data_key(event, sha256),
                recipients=[grant],
            )
        except SealBroken:
            raise PictureBroken from None

    def assert_not_erased(self, grant: GrantId) -> None:
        """Read the erasure marker now; for each grant of a batch before its commit.

        Raises `Erased`: the eraser deletes what was just stored under the grant.
        """
        self._vault.assert_not_erased(grant)

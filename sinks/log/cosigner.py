"""Cosign the log as its auditor: only a log that has only grown, and only after a look of its own.

The auditor's cosignature states, beside growth (C2SP tlog-cosignature): for every erasure up to
this checkpoint the auditor saw the marker, no key and no object of the grant, and of an upload the
tombstone and no object; for every dead key of an epoch, no key.  It cannot see consent and master
keys, and states nothing about them.

It keeps its place: the newest checkpoint that it cosigned.  A leaf that is false leaves this
and all later checkpoints without cosignature, until a person has looked.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.errors import AlreadyExists, ProofRefused
from erasestream.schemas.events.receipts import (
    EpochKeyLeaf,
    ErasureLeaf,
    Leaf,
    UploadErasureLeaf,
    decode_leaf,
)
from erasestream.schemas.ids import UploadId
from erasestream.sinks.buckets.access_policy import EPOCHS
from erasestream.sinks.buckets.object_store import ObjectReader, ObjectStore
from erasestream.sinks.keys.erased_uploads import UPLOADS, tombstone_name
from erasestream.sinks.keys.key_vault import key_prefix, marker_name
from erasestream.sinks.log.checkpoint import Checkpoint
from erasestream.sinks.log.log_objects import COSIGNATURES, LogObjects
from erasestream.sinks.log.log_reader import LogReader, new_leaves, verify_growth
from erasestream.sinks.log.signed_note import PublicKey, SigningKey

Look = Callable[[Iterable[Leaf]], None]
"""Raises `ProofRefused` if a leaf is false."""


class Cosigner:
    """The auditor of one log."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        log: PublicKey,
        key: SigningKey,
        look: Look,
        now: WallClock = utc_now,
    ) -> None:
        self._objects = LogObjects(store)
        self._reader = LogReader(store, log)
        self._key = key
        self._look = look
        self._now = now

    def cosign(self) -> Checkpoint | None:
        """Cosign the newest checkpoint; None if there is none that is not cosigned.

        Raises `ProofRefused`, and signs nothing.
        """
        newest = self._reader.newest()
        before = self._reader.newest(self._key.public)
        if newest is None:
            return None
        if before is not None:
            verify_growth(before.checkpoint, newest)
            if before.name == newest.name:
                return None
        self._look(map(decode_leaf, new_leaves(before and before.checkpoint, newest)))
        line = self._key.cosign(newest.checkpoint.text, int(self._now().timestamp()))
        # Of auditors that sign at once, at different seconds, the first one counts.
        with suppress(AlreadyExists):
            self._objects.create(f"{COSIGNATURES}{newest.name}", newest.signed + line.encode())
        return newest.checkpoint


class AbsenceCheck:
    """Looks for keys and objects that receipts say are gone, in the names of both buckets."""

    def __init__(self, *, vault: ObjectReader, images: ObjectReader) -> None:
        self._vault = vault
        self._images = images

    def __call__(self, leaves: Iterable[Leaf]) -> None:
        """Raise `ProofRefused` if something is there."""
        erased: dict[str, str] = {}
        uploads: dict[str, str] = {}
        for leaf in leaves:
            match leaf:
                case ErasureLeaf():
                    self._check_keys(leaf)
                    erased[leaf.grant] = leaf.id
                case UploadErasureLeaf():
                    uploads[leaf.stored_as] = leaf.id
                case EpochKeyLeaf():
                    self._check_absent(f"{EPOCHS}{leaf.purpose}/{leaf.epoch}", leaf.id)
        self._check_tombstones(uploads)
        if not erased and not uploads:
            return
        for found in self._images.list(""):
            grant = found.name.split("/")[1:2]
            receipt = erased.get(grant[0]) if grant else None
            if uploads and not receipt:
                receipt = uploads.get(_stored_as(found.name))
            if receipt:
                raise ProofRefused(f"an object of receipt {receipt} still exists")

    def _check_tombstones(self, uploads: Mapping[str, str]) -> None:
        """Raise unless the vault has a tombstone of each of these hashes of names."""
        missing = dict(uploads)
        for found in self._vault.list(UPLOADS) if uploads else ():
            missing.pop(hashlib.sha256(found.name.encode()).hexdigest(), None)
        for receipt in missing.values():
            raise ProofRefused(f"the tombstone of receipt {receipt} is missing")

    def _check_keys(self, leaf: ErasureLeaf) -> None:
        marker = marker_name(leaf.grant)
        if marker not in {found.name for found in self._vault.list(marker)}:
            raise ProofRefused(f"the erasure marker of receipt {leaf.id} is missing")
        if any(True for _ in self._vault.list(key_prefix(leaf.grant))):
            raise ProofRefused(f"a key of receipt {leaf.id} still exists")

    def _check_absent(self, name: str, receipt_id: str) -> None:
        if name in {found.name for found in self._vault.list(name)}:
            raise ProofRefused(f"the key of receipt {receipt_id} still exists")


def _stored_as(name: str) -> str:
    """Return the hash of the name of the tombstone that an object's upload would have."""
    owner, _, rest = name.partition("/")
    upload = UploadId(rest.partition("/")[2].partition(".")[0])
    return hashlib.sha256(tombstone_name(owner, upload).encode()).hexdigest()

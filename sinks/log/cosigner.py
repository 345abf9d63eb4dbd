"""Cosign the log as its auditor: only a log that has only grown, and only after a look of its own.

The auditor's cosignature states, beside growth (C2SP tlog-cosignature): for every erasure up to
this checkpoint the auditor saw the marker, no key and no object of the grant; for every dead key
of an epoch, no key.  It cannot see consent and master keys, and states nothing about them.

It keeps its place: the newest checkpoint that it cosigned.  A leaf that is false leaves this
and all later checkpoints without cosignature, until a person has looked.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from erasestream.schemas.errors import AlreadyExists, ProofRefused
from erasestream.schemas.events.receipts import EpochKeyLeaf, ErasureLeaf, Leaf, decode_leaf
from erasestream.sinks.buckets.access_policy import EPOCHS
from erasestream.sinks.buckets.object_store import ObjectReader, ObjectStore
from erasestream.sinks.keys.key_vault import key_prefix, marker_name
from erasestream.sinks.log.checkpoint import Checkpoint
from erasestream.sinks.log.log_objects import COSIGNATURES, LogObjects
from erasestream.sinks.log.log_reader import LogReader, new_leaves, verify_growth
from erasestream.sinks.log.signed_note import PublicKey, SigningKey

Look = Callable[[Iterable[Leaf]], None]
"""Raises `ProofRefused` if a leaf is false."""


class Cosigner:
    """The auditor of one log; `now_s` is its clock, in seconds since 1970."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        log: PublicKey,
        key: SigningKey,
        look: Look,
        now_s: Callable[[], float],
    ) -> None:
        self._objects = LogObjects(store)
        self._reader = LogReader(store, log)
        self._key = key
        self._look = look
        self._now_s = now_s

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
        line = self._key.cosign(newest.checkpoint.text, int(self._now_s()))
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
        for leaf in leaves:
            match leaf:
                case ErasureLeaf():
                    self._check_keys(leaf)
                    erased[leaf.grant] = leaf.id
                case EpochKeyLeaf():
                    self._check_absent(f"{EPOCHS}{leaf.purpose}/{leaf.epoch}", leaf.id)
        if not erased:
            return
        for found in self._images.list(""):
            grant = found.name.split("/")[1:2]
            if grant and grant[0] in erased:
                raise ProofRefused(f"an object of receipt {erased[grant[0]]} still exists")

    def _check_keys(self, leaf: ErasureLeaf) -> None:
        marker = marker_name(leaf.grant)
        if marker not in {found.name for found in self._vault.list(marker)}:
            raise ProofRefused(f"the erasure marker of receipt {leaf.id} is missing")
        if any(True for _ in self._vault.list(key_prefix(leaf.grant))):
            raise ProofRefused(f"a key of receipt {leaf.id} still exists")

    def _check_absent(self, name: str, receipt_id: str) -> None:
        if name in {found.name for found in self._vault.list(name)}:
            raise ProofRefused(f"the key of receipt {receipt_id} still exists")

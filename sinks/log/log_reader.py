"""Read the log: checkpoints, leaves, and proofs, each verified before it is handed out."""

from collections.abc import Iterator
from typing import NamedTuple

from erasestream.schemas.errors import NotFound, ProofRefused
from erasestream.sinks.buckets.object_store import ObjectReader
from erasestream.sinks.log.checkpoint import Checkpoint, open_checkpoint
from erasestream.sinks.log.log_objects import (
    CHECKPOINTS,
    COSIGNATURES,
    LogObjectReader,
    SignedSize,
)
from erasestream.sinks.log.merkle import consistency_proof, inclusion_proof, is_consistent
from erasestream.sinks.log.proof_file import TlogProof
from erasestream.sinks.log.receipt_ids import ReceiptIds
from erasestream.sinks.log.signed_note import PublicKey
from erasestream.sinks.log.tiles import Read, TiledTree


class SignedTree(NamedTuple):
    """A checkpoint that was verified, and the tree that it covers."""

    name: SignedSize
    signed: bytes
    checkpoint: Checkpoint
    tree: TiledTree


class LogReader:
    """A log with this key.  Not thread-safe."""

    def __init__(self, store: ObjectReader, log: PublicKey) -> None:
        self._objects = LogObjectReader(store)
        self._log = log
        self.read: Read = self._objects.read

    def newest(self, cosigner: PublicKey | None = None) -> SignedTree | None:
        """Return the newest checkpoint, or the newest that this cosigner has signed; None if none.

        Raises `ProofRefused` for one that does not hold, or whose tiles are not its own.
        """
        folder = COSIGNATURES if cosigner else CHECKPOINTS
        name = self._objects.newest(folder)
        if name is None:
            return None
        signed = self._objects.signed(folder, name)
        checkpoint = open_checkpoint(signed, self._log, cosigner).checkpoint
        tree = TiledTree(self._objects.read, checkpoint.size)
        try:
            is_complete = tree.root() == checkpoint.root
        except NotFound:
            is_complete = False
        if not is_complete:
            raise ProofRefused("the tiles of the log are not those of its checkpoint")
        return SignedTree(name, signed, checkpoint, tree)

    def ids(self, newest: SignedTree) -> ReceiptIds:
        """Return which receipts the tree has, and where."""
        return ReceiptIds.read(self._objects.read, self._objects.read_all, newest.checkpoint.size)


def prove(newest: SignedTree, index: int, *, log: PublicKey, extra: bytes = b"") -> TlogProof:
    """Return the proof of a leaf, after verifying it."""
    (leaf,) = newest.tree.leaves(index, index + 1)
    path = tuple(inclusion_proof(index, newest.checkpoint.size, newest.tree.subtree))
    proof = TlogProof(index, path, newest.signed, extra)
    proof.verify(leaf, log)
    return proof


def verify_growth(old: Checkpoint, new: SignedTree) -> None:
    """Verify that the log has only grown since the old checkpoint.  Raises `ProofRefused`."""
    if old.size > new.checkpoint.size:
        raise ProofRefused(f"the log was rewound from {old.size} leaves to {new.checkpoint.size}")
    proof = consistency_proof(old.size, new.checkpoint.size, new.tree.subtree)
    size, root = new.checkpoint.size, new.checkpoint.root
    if not is_consistent(old.size, old.root, new=size, new_root=root, proof=proof):
        raise ProofRefused(f"the log of {size} leaves is no continuation of that of {old.size}")


def new_leaves(old: Checkpoint | None, new: SignedTree) -> Iterator[bytes]:
    """Yield the leaves since the old checkpoint, each verified."""
    return new.tree.leaves(old.size if old else 0, new.checkpoint.size)

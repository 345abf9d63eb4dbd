"""Receipts: one leaf, its proof, and the owner's part, as a file to verify offline."""

from typing import NamedTuple

from erasestream.schemas.errors import ProofRefused
from erasestream.schemas.events.receipts import Leaf, ReceiptExtra, decode_leaf
from erasestream.sinks.log.checkpoint import Checkpoint, Cosigned
from erasestream.sinks.log.proof_file import TlogProof
from erasestream.sinks.log.signed_note import PublicKey


class VerifiedReceipt(NamedTuple):
    """A receipt that holds."""

    leaf: Leaf
    extra: ReceiptExtra
    leaf_index: int
    log: Cosigned


def verify_receipt(
    raw: bytes, log: PublicKey, cosigner: PublicKey, *, seen: Checkpoint | None = None
) -> VerifiedReceipt:
    """Verify a receipt with the keys of the log and of the auditor.

    `seen`: a checkpoint of the log from before.  Raises `ProofRefused` with a sentence.
    """
    proof = TlogProof.parse(raw)
    extra = ReceiptExtra.decode(proof.extra)
    opened = proof.verify(extra.leaf.encode(), log, cosigner)
    if seen is not None:
        _compare(opened.checkpoint, seen)
    leaf = decode_leaf(extra.leaf.encode())
    extra.check(leaf)
    return VerifiedReceipt(leaf, extra, proof.leaf_index, opened)


def _compare(checkpoint: Checkpoint, seen: Checkpoint) -> None:
    """Refuse a checkpoint that no log can have after the one that was seen."""
    if checkpoint.size < seen.size:
        raise ProofRefused(f"the log was rewound from {seen.size} leaves to {checkpoint.size}")
    if checkpoint.size == seen.size and checkpoint.root != seen.root:
        raise ProofRefused(f"the log has two trees of {seen.size} leaves")

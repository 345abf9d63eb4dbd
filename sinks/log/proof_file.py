"""Proofs that a log has a leaf, as one file (C2SP tlog-proof).  Pure.

`extra` is opaque to this format and proven by nothing: the caller compares it with the leaf.
"""

import base64
import binascii
import re
from typing import NamedTuple, Self

from erasestream.schemas.errors import ProofRefused
from erasestream.sinks.log.checkpoint import Cosigned, decode_hash, open_checkpoint
from erasestream.sinks.log.merkle import is_included, leaf_hash
from erasestream.sinks.log.signed_note import PublicKey

HEADER = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
MAX_BYTES = 512 * 1024
MAX_HASHES = 63
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,17})")


class TlogProof(NamedTuple):
    """Index of a leaf, its path to the root, and the checkpoint with that root."""

    leaf_index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse a file.  Raises `ProofRefused`."""
        head, empty, checkpoint = raw.partition(b"\n\n")
        if not empty or len(raw) > MAX_BYTES or not head.isascii():
            raise ProofRefused("the file is not a tlog-proof")
        header, *lines = head.decode().split("\n")
        extra = lines.pop(0) if lines and lines[0].startswith("extra ") else ""
        index = _INDEX.fullmatch(lines.pop(0)) if lines else None
        if header != HEADER or index is None or len(lines) > MAX_HASHES:
            raise ProofRefused("the file is not a tlog-proof")
        try:
            decoded = base64.b64decode(extra.removeprefix("extra "), validate=True)
        except binascii.Error:
            raise ProofRefused("the extra data is malformed") from None
        return cls(int(index[1]), tuple(map(decode_hash, lines)), checkpoint, decoded)

    def format(self) -> bytes:
        """Return the file."""
        extra = [f"extra {base64.b64encode(self.extra).decode()}"] if self.extra else []
        hashes = [base64.b64encode(each).decode() for each in self.hashes]
        head = "\n".join([HEADER, *extra, f"index {self.leaf_index}", *hashes])
        return head.encode() + b"\n\n" + self.checkpoint

    def verify(self, leaf: bytes, log: PublicKey, cosigner: PublicKey | None = None) -> Cosigned:
        """Verify that the log with this key has the leaf; return the checkpoint.

        Raises `ProofRefused`.
        """
        opened = open_checkpoint(self.checkpoint, log, cosigner)
        size, tree_root = opened.checkpoint.size, opened.checkpoint.root
        if not is_included(
            leaf_hash(leaf), self.leaf_index, size=size, tree_root=tree_root, proof=self.hashes
        ):
            raise ProofRefused("the leaf is not in the log with this checkpoint")
        return opened


def checkpoint_in(raw: bytes) -> bytes:
    """Return the checkpoint that a file is, or that a proof has."""
    return TlogProof.parse(raw).checkpoint if raw.startswith(HEADER.encode()) else raw

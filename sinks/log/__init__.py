"""The transparency log: a Merkle tree of receipts that anyone can check."""

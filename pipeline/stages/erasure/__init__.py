"""The eraser: turn revocations into erasure markers."""

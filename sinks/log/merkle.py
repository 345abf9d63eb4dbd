"""Merkle trees and their proofs (RFC 6962, section 2.1).  Pure.

A tree is known by the hashes of its *subtrees*: those complete ones that begin at a multiple of
their size, as the tiles of the log keep them.  The subtree (level, index) covers the leaves from
`index << level` up to `(index + 1) << level`.

Building follows the definitions of RFC 6962, checking the algorithms of RFC 9162 (2.1.3.2 and
2.1.4.2), so that neither can repeat a mistake of the other.
"""

import hashlib
from collections.abc import Callable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Subtree = Callable[[int, int], bytes]
"""Returns the hash of the subtree at a level and index."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with two children."""
    return hashlib.sha256(b"\1" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of subtrees of one size, of which there is at least one."""
    level = list(hashes)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = level[-1:] if len(level) % 2 else []
        level = [node_hash(left, right) for left, right in pairs] + odd
    return level[0]


def root(size: int, subtree: Subtree) -> bytes:
    """Return the root of the first `size` leaves."""
    return _range(0, size, subtree) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the path from a leaf to the root of the first `size` leaves (PATH, 2.1.1)."""
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range(middle, end, subtree))
            end = middle
        else:
            path.append(_range(start, middle, subtree))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that the tree of `new` leaves begins with that of `old` (2.1.2).

    Empty if they are the same, or if the old one is.
    """
    start, end, proof, is_whole = 0, new, [], True
    if old in {0, new}:
        return []
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range(middle, end, subtree))
            end = middle
        else:
            proof.append(_range(start, middle, subtree))
            start, is_whole = middle, False
    if not is_whole:
        proof.append(_range(start, end, subtree))
    return proof[::-1]


def is_included(
    leaf: bytes, index: int, *, size: int, tree_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether the proof shows a leaf with this hash at this index of the tree."""
    if not 0 <= index < size:
        return False
    node, last, result = index, size - 1, leaf
    for each in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            result = node_hash(each, result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, each)
        node, last = node >> 1, last >> 1
    return last == 0 and result == tree_root


def is_consistent(
    old: int, old_root: bytes, *, new: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether the proof shows that the new tree begins with all leaves of the old one."""
    if old in {0, new}:
        return not proof and old_root == (EMPTY_ROOT if old == 0 else new_root)
    if not 0 < old < new or not proof:
        return False
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for each in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(each, first), node_hash(each, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, each)
        node, last = node >> 1, last >> 1
    return last == 0 and (first, second) == (old_root, new_root)


def _range(start: int, end: int, subtree: Subtree) -> bytes:
    """Return the hash of some leaves, as the proofs need them: MTH(D[start:end])."""
    size = end - start
    level = size.bit_length() - 1
    if size == 1 << level:
        return subtree(level, start >> level)
    middle = start + _split(size)
    return node_hash(_range(start, middle, subtree), _range(middle, end, subtree))


def _split(size: int) -> int:
    """Return the largest power of two below a size."""
    return 1 << (size - 1).bit_length() - 1

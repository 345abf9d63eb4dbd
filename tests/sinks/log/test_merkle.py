"""Trees, proofs and tiles against the definitions of RFC 6962, computed the slow way."""

import hashlib
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.errors import NotFound, ProofRefused
from erasestream.sinks.log.edge import Edge
from erasestream.sinks.log.merkle import (
    EMPTY_ROOT,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
)
from erasestream.sinks.log.tiles import TiledTree, tile_name, unpack, widths
from tests.sinks.log.sample_log import SampleLog

SIZE = 600
STEPS = (*range(1, 34), 255, 256, 257, 511, 512, 513, SIZE)
LOG = SampleLog(*STEPS)
LEAVES = [f"leaf {n}".encode() for n in range(SIZE)]

sizes = st.sampled_from(STEPS)


@cache
def root_of(size: int) -> bytes:
    return definition(LEAVES[:size])


def definition(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1."""
    if len(leaves) < 2:
        return hashlib.sha256(b"\0" + leaves[0] if leaves else b"").digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + definition(leaves[:half]) + definition(leaves[half:])).digest()


def test_the_roots_are_those_of_the_definition() -> None:
    assert SampleLog().edge.root() == EMPTY_ROOT == definition([])
    for size in STEPS:
        assert LOG.tree(size).root() == definition(LEAVES[:size])
        edge = Edge.read(LOG.read, size)
        assert edge.root() == definition(LEAVES[:size])


@given(size=sizes, index=st.integers(0, SIZE))
def test_a_proof_shows_its_leaf_and_no_other(size: int, index: int) -> None:
    index %= size
    root, leaf = root_of(size), leaf_hash(LEAVES[index])
    proof = inclusion_proof(index, size, LOG.tree(size).subtree)
    assert is_included(leaf, index, size=size, tree_root=root, proof=proof)
    for other in (index - 1, index + 1, index + size):
        assert not is_included(leaf, other, size=size, tree_root=root, proof=proof)
    assert not is_included(leaf_hash(b"x"), index, size=size, tree_root=root, proof=proof)
    assert not is_included(leaf, index, size=size, tree_root=root, proof=[*proof, root])
    if proof:
        assert not is_included(leaf, index, size=size, tree_root=root, proof=proof[:-1])


@given(old=sizes, new=sizes)
def test_growth_is_proven_and_nothing_else_is(old: int, new: int) -> None:
    old, new = sorted((old, new))
    first, second, other = root_of(old), root_of(new), leaf_hash(b"other")
    proof = LOG.grew(old, new)
    assert is_consistent(old, first, new=new, new_root=second, proof=proof)
    assert not is_consistent(old, other, new=new, new_root=second, proof=proof)
    assert not is_consistent(old, first, new=new, new_root=other, proof=proof)
    assert not is_consistent(old, first, new=new, new_root=second, proof=[*proof, first])
    assert is_consistent(0, EMPTY_ROOT, new=new, new_root=second, proof=[])
    if old < new:
        assert not is_consistent(new, second, new=old, new_root=first, proof=proof)


def test_tiles_have_the_names_of_the_specification() -> None:
    assert tile_name(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tile_name("entries", 273, 112) == "tile/entries/273.p/112"
    assert [widths(70_000, level) for level in range(4)] == [(273, 112), (1, 17), (0, 1), (0, 0)]
    assert {"tile/1/000.p/2", "tile/0/002.p/88", "tile/entries/002.p/88"} <= LOG.tiles.keys()
    assert not any(name.startswith("tile/2/") for name in LOG.tiles)


def test_an_edge_that_was_read_grows_as_the_one_that_wrote_it() -> None:
    for size in (1, 255, 256, 300, 512):
        log = SampleLog(size)
        log.edge = Edge.read(log.read, size)
        log.append_to(SIZE)
        assert log.tree(SIZE).root() == definition(LEAVES)


def test_a_full_tile_replaces_one_that_was_not_full() -> None:
    log = SampleLog(200, SIZE)
    log.tiles = {name: data for name, data in log.tiles.items() if not name.endswith("/200")}
    assert log.tree(200).root() == definition(LEAVES[:200])
    assert list(log.tree(200).leaves(190, 200)) == LEAVES[190:200]


def test_leaves_that_are_not_those_of_the_tree_are_refused() -> None:
    log = SampleLog(300)
    name = tile_name("entries", 1, 44)
    for changed in (log.tiles[name].replace(b"299", b"298"), log.tiles[name][:-1], b"\0"):
        log.tiles[name] = changed
        with pytest.raises(ProofRefused):
            list(log.tree(300).leaves(250, 300))
    del log.tiles[name]
    with pytest.raises(NotFound):
        list(log.tree(300).leaves(250, 300))
    log.tiles[tile_name(1, 0, 1)] = b""
    with pytest.raises(ProofRefused, match="cut short"):
        log.tree(300).root()


def test_an_entry_bundle_has_each_leaf_after_its_length() -> None:
    assert unpack(b"\0\1a\0\0\0\2bc") == [b"a", b"", b"bc"]


def test_a_million_leaves_take_three_levels() -> None:
    tree = TiledTree(lambda _: bytes(8192), 1 << 20)
    assert len(inclusion_proof(0, 1 << 20, tree.subtree)) == 20

"""A copy of the log as plain files, which anyone may be given: tiles and `checkpoint`.

The form is that of C2SP tlog-tiles, so that a web server of static files makes it a log that other
programs read.  A copy only grows: one that would not is refused, and left as it was.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

from erasestream.schemas.errors import NotFound, ProofRefused
from erasestream.sinks.log.checkpoint import open_checkpoint
from erasestream.sinks.log.log_objects import SignedSize
from erasestream.sinks.log.log_reader import SignedTree, verify_growth
from erasestream.sinks.log.merkle import fold
from erasestream.sinks.log.signed_note import MAX_NOTE_BYTES, PublicKey
from erasestream.sinks.log.tiles import (
    BITS,
    ENTRIES,
    MAX_TILE_BYTES,
    WIDTH,
    Read,
    TiledTree,
    tile_name,
    widths,
)

CHECKPOINT = "checkpoint"


def read_folder(folder: Path) -> Read:
    """Return a function that reads files of a copy."""

    def read(name: str) -> bytes:
        try:
            with (folder / name).open("rb") as file:
                return file.read(MAX_TILE_BYTES)
        except FileNotFoundError:
            raise NotFound(name) from None

    return read


def open_folder(
    folder: Path, log: PublicKey, cosigner: PublicKey | None = None
) -> SignedTree | None:
    """Return a copy, whose checkpoint is verified; None if there is none."""
    read = read_folder(folder)
    try:
        signed = read(CHECKPOINT)[:MAX_NOTE_BYTES]
    except NotFound:
        return None
    checkpoint = open_checkpoint(signed, log, cosigner).checkpoint
    name = SignedSize(checkpoint.size, 0)
    return SignedTree(name, signed, checkpoint, TiledTree(read, checkpoint.size))


def copy_log(newest: SignedTree, read: Read, folder: Path, log: PublicKey) -> None:
    """Copy the log up to a checkpoint; tiles first, so that the copy is complete at any time.

    Raises `ProofRefused` if the copy has a log of which this is no continuation.
    """
    if (before := open_folder(folder, log)) is not None:
        verify_growth(before.checkpoint, newest)
    for name in _tiles(newest.checkpoint.size):
        if not (folder / name).exists():
            _write(folder / name, read(name))
    _write(folder / CHECKPOINT, newest.signed)


def verify_leaves(copy: SignedTree) -> None:
    """Verify that tiles and leaves are those of the checkpoint.  Raises `ProofRefused`."""
    if copy.tree.root() != copy.checkpoint.root:
        raise ProofRefused("the tiles of the log are not those of its checkpoint")
    level = 1
    while copy.checkpoint.size >> BITS * level:
        for index in range(copy.checkpoint.size >> BITS * level):
            parts = [copy.tree.subtree(BITS * (level - 1), WIDTH * index + n) for n in range(WIDTH)]
            if fold(parts) != copy.tree.subtree(BITS * level, index):
                raise ProofRefused("a tile of the log is not that of its level")
        level += 1
    for _ in copy.tree.leaves(0, copy.checkpoint.size):
        pass


def _tiles(size: int) -> Iterator[str]:
    """Yield the names of all tiles and bundles of a log of this size."""
    level = 0
    while size >> BITS * level:
        full, width = widths(size, level)
        spans = [(n, WIDTH) for n in range(full)] + ([(full, width)] if width else [])
        for kind in (level, ENTRIES) if level == 0 else (level,):
            yield from (tile_name(kind, *span) for span in spans)
        level += 1


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(8)}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

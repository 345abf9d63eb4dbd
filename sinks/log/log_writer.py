"""Append to the log: each receipt once, whichever process is killed, and when.

    1. create batches/<size>     the decision: one successor of a log of this size, for all writers
    2. create tiles and ids      all follow from the batch
    3. create the checkpoint     signed once all that it covers is there

A writer that finds a batch after the newest checkpoint does the rest of another's, or of its own
before it was killed: all writers compute the same bytes.  It appends only to the end,
so it has seen all ids before it decides which leaves are new.  A checkpoint is signed only for a
batch that exists: a writer that lost a race has signed nothing.

A batch has the caller's positions in its sources, so that a successor goes on where it ended.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from erasestream.schemas.errors import AlreadyExists, InvariantBroken, NotFound
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.log.checkpoint import Checkpoint, open_checkpoint
from erasestream.sinks.log.edge import Edge, Tile
from erasestream.sinks.log.log_objects import CHECKPOINTS, LogObjects, SignedSize
from erasestream.sinks.log.receipt_ids import ReceiptIds, id_of
from erasestream.sinks.log.signed_note import SigningKey
from erasestream.sinks.log.tiles import pack, unpack

MAX_BATCH = 1000
"""Leaves of one batch."""

Positions = Mapping[str, int]
"""Per source the position after the last record that was read."""


class Batch(NamedTuple):
    """Leaves that were appended at once, and the positions after them."""

    leaves: Sequence[bytes]
    positions: Positions

    def encode(self) -> bytes:
        """Return the object."""
        return json.dumps(dict(self.positions), sort_keys=True).encode() + b"\n" + pack(self.leaves)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Parse the object."""
        positions, _, leaves = raw.partition(b"\n")
        return cls(unpack(leaves), json.loads(positions))


class LogWriter:
    """One writer of a log; others may write at the same time.  Not thread-safe."""

    def __init__(self, *, store: ObjectStore, key: SigningKey) -> None:
        """Open the log and finish what another left unfinished.

        Raises `ProofRefused` or `InvariantBroken` if the log is not one of this key.
        """
        self._objects = LogObjects(store)
        self._key = key
        self._edge, self._ids = Edge(), ReceiptIds()
        self._unwritten: list[Tile] = []
        """Objects of the last batch, the checkpoint last, until they are all there."""
        self.positions: Positions = {}
        """Positions in the sources up to which the log has everything."""
        self._open()
        self.follow()

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._edge.size

    def append(self, leaves: Sequence[bytes], positions: Positions) -> bool:
        """Append those leaves whose receipts the log does not have yet.

        Returns whether that was done: otherwise another writer has appended something, and the
        caller reads again from `self.positions`.  Raises `Unavailable`; then call again, with the
        same leaves or others.
        """
        if self.follow():
            return False
        new: dict[str, bytes] = {}
        for leaf in leaves:
            if self._ids.find(each := id_of(leaf)) is None:
                new.setdefault(each, leaf)  # of those that repeat one, the first counts
        if not new:
            self.positions = positions
            return True
        batch = Batch(tuple(new.values()), positions)
        if len(batch.leaves) > MAX_BATCH:
            raise InvariantBroken(f"more than {MAX_BATCH} leaves at once")
        try:
            self._objects.create(_batch_name(self.size), batch.encode())
        except AlreadyExists:
            self.follow()
            return False
        self._apply(batch)
        self._write()
        return True

    def follow(self) -> bool:
        """Apply and finish all batches that others have appended; return whether there were any."""
        self._write()
        has_grown = False
        while True:
            try:
                raw = self._objects.read(_batch_name(self.size))
            except NotFound:
                return has_grown
            self._apply(Batch.decode(raw))
            self._write()
            has_grown = True

    def _open(self) -> None:
        name = self._objects.newest(CHECKPOINTS)
        if name is None:
            return
        signed = self._objects.signed(CHECKPOINTS, name)
        checkpoint = open_checkpoint(signed, self._key.public).checkpoint
        self._edge = Edge.read(self._objects.read, name.size)
        if checkpoint != self._checkpoint():
            raise InvariantBroken("the tiles of the log are not those of its checkpoint")
        self._ids = ReceiptIds.read(self._objects.read, self._objects.read_all, name.size)
        self.positions = Batch.decode(self._objects.read(_batch_name(name.before))).positions

    def _apply(self, batch: Batch) -> None:
        """Compute the objects of a batch that is decided."""
        before = self.size
        self._unwritten = [*self._edge.append(batch.leaves), *self._ids.add(batch.leaves)]
        text = self._checkpoint().text
        name = f"{CHECKPOINTS}{SignedSize(self.size, before)}"
        self._unwritten.append(Tile(name, f"{text}\n{self._key.sign(text)}".encode()))
        self.positions = batch.positions

    def _write(self) -> None:
        if self._unwritten:
            *tiles, checkpoint = self._unwritten
            self._objects.ensure_all(tiles)
            self._objects.ensure(checkpoint)
            self._unwritten = []

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._key.public.name, self.size, self._edge.root())


def _batch_name(size: int) -> str:
    return f"batches/{size}"

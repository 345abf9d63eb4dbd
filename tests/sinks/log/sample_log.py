"""A log in memory, with keys of its own, for tests of what is pure."""

from collections.abc import Sequence

from erasestream.schemas.errors import NotFound
from erasestream.sinks.log.checkpoint import Checkpoint
from erasestream.sinks.log.edge import Edge
from erasestream.sinks.log.merkle import consistency_proof, inclusion_proof
from erasestream.sinks.log.proof_file import TlogProof
from erasestream.sinks.log.signed_note import Kind, SigningKey
from erasestream.sinks.log.tiles import TiledTree

ORIGIN = "log.example/erasestream"
KEY = SigningKey(ORIGIN, Kind.LOG, bytes(range(32)))
AUDITOR = SigningKey("auditor.example", Kind.COSIGNATURE, bytes(range(1, 33)))
STRANGER = SigningKey(ORIGIN, Kind.LOG, bytes(range(2, 34)))
SIGNED_S = 1_790_000_000


class SampleLog:
    """Leaves `leaf 0`, `leaf 1` ... in tiles, appended in steps."""

    def __init__(self, *sizes: int) -> None:
        self.tiles: dict[str, bytes] = {}
        self.edge = Edge()
        self.append_to(*sizes)

    def append_to(self, *sizes: int) -> None:
        """Append leaves up to each of these sizes."""
        for size in sizes:
            self.append([f"leaf {n}".encode() for n in range(self.edge.size, size)])

    def append(self, leaves: Sequence[bytes]) -> None:
        """Append leaves; a tile that is there must be the same."""
        for name, data in self.edge.append(leaves):
            assert self.tiles.setdefault(name, data) == data

    def read(self, name: str) -> bytes:
        """Return a tile."""
        try:
            return self.tiles[name]
        except KeyError:
            raise NotFound(name) from None

    def tree(self, size: int) -> TiledTree:
        """Return the log as it was at a size that it had."""
        return TiledTree(self.read, size)

    def checkpoint(self, size: int) -> Checkpoint:
        """Return the checkpoint of a size that it had."""
        return Checkpoint(ORIGIN, size, self.tree(size).root())

    def prove(self, index: int, size: int, extra: bytes = b"") -> TlogProof:
        """Return a proof with both signatures."""
        path = tuple(inclusion_proof(index, size, self.tree(size).subtree))
        return TlogProof(index, path, signed(self.checkpoint(size)), extra)

    def grew(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the log grew between two sizes that it had."""
        return consistency_proof(old, new, self.tree(new).subtree)


def signed(checkpoint: Checkpoint, key: SigningKey = KEY, cosigner: SigningKey = AUDITOR) -> bytes:
    """Return a checkpoint with both signatures."""
    text = checkpoint.text
    return f"{text}\n{key.sign(text)}{cosigner.cosign(text, SIGNED_S)}".encode()

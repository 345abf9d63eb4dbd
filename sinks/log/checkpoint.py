"""Checkpoints of the log (C2SP tlog-checkpoint): its name, size and root, as a signed note."""

import base64
import binascii
import re
from typing import NamedTuple

from erasestream.schemas.errors import ProofRefused
from erasestream.sinks.log.merkle import HASH_BYTES
from erasestream.sinks.log.signed_note import Note, PublicKey

_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")
LINES = 3


class Checkpoint(NamedTuple):
    """Size and root of a log at one time."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


class Cosigned(NamedTuple):
    """A checkpoint whose signatures were verified."""

    checkpoint: Checkpoint
    time_s: int
    """When the cosigner signed, in seconds since 1970; 0 without one."""


def open_checkpoint(raw: bytes, log: PublicKey, cosigner: PublicKey | None = None) -> Cosigned:
    """Verify a checkpoint of the log with this key, cosigned if a cosigner is given.

    Nothing of an unverified note is returned or quoted.  Raises `ProofRefused`.
    """
    note = Note.parse(raw)
    note.verify(log)
    checkpoint = _parse(note.text)
    if checkpoint.origin != log.name:
        raise ProofRefused("the checkpoint is of another log")
    return Cosigned(checkpoint, note.verify(cosigner) if cosigner else 0)


def _parse(text: str) -> Checkpoint:
    origin, size, root, *others = text.split("\n")[: LINES + 1]
    if others != [""] or not _SIZE.fullmatch(size) or not origin:
        raise ProofRefused("the checkpoint is malformed")
    checkpoint = Checkpoint(origin, int(size), decode_hash(root))
    if checkpoint.text != text:
        raise ProofRefused("the checkpoint is malformed")
    return checkpoint


def decode_hash(text: str) -> bytes:
    """Return a hash that is written in base64.  Raises `ProofRefused`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != HASH_BYTES or base64.b64encode(raw).decode() != text:
        raise ProofRefused("a hash is malformed")
    return raw

"""Signed notes (C2SP signed-note), and cosignatures (C2SP tlog-cosignature).  Pure.

A note is text, an empty line, and a line for each signature.  Two kinds of Ed25519 signature: the
log's own over the text, and a cosigner's over the text and the time of signing.  All other lines
are ignored, as the specification demands, and prove nothing.

A key is written as `<name>+<key id>+<base64>`, as other programs of this format read it.
"""

import base64
import binascii
import hashlib
import re
from enum import IntEnum
from typing import NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from erasestream.schemas.errors import ProofRefused, Refused

KEY_BYTES = 32
ID_BYTES = 4
TIME_BYTES = 8
MAX_NOTE_BYTES = 64 * 1024
_NAME = re.compile(r"[^\s+]+")
_LINE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class Kind(IntEnum):
    """Kind of a signature; its number is part of the key's id."""

    LOG = 1
    COSIGNATURE = 4


class PublicKey(NamedTuple):
    """A key that a reader trusts, for one kind of signature."""

    name: str
    kind: Kind
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the written form.  Raises `ProofRefused`."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
            key = cls(name, Kind(raw[0]), raw[1:])
        except (ValueError, IndexError):
            raise ProofRefused("a public key is not of the form name+id+base64") from None
        is_named = _NAME.fullmatch(name) is not None
        if not is_named or len(key.raw) != KEY_BYTES or key.id.hex() != key_id:
            raise ProofRefused("a public key does not match its id")
        return key

    @property
    def id(self) -> bytes:
        """The first bytes of the key's hash, which signatures name."""
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.raw
        return hashlib.sha256(named).digest()[:ID_BYTES]

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([self.kind]) + self.raw).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"


class SigningKey:
    """A private key, for one kind of signature."""

    def __init__(self, name: str, kind: Kind, raw: bytes) -> None:
        """`raw` are the 32 bytes of the private key.  Raises `Refused` for a malformed name."""
        if _NAME.fullmatch(name) is None:
            raise Refused("the name of a log or auditor has no space and no plus sign")
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public: PublicKey = PublicKey(name, kind, self._key.public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """Return the log's signature of a text, as a line."""
        return self._line(self._key.sign(text.encode()))

    def cosign(self, text: str, time_s: int) -> str:
        """Return a cosigner's signature of a text at a time (seconds since 1970), as a line."""
        signature = self._key.sign(_cosigned(text, time_s))
        return self._line(time_s.to_bytes(TIME_BYTES, "big") + signature)

    def _line(self, signature: bytes) -> str:
        encoded = base64.b64encode(self.public.id + signature).decode()
        return f"\u2014 {self.public.name} {encoded}\n"


class Note(NamedTuple):
    """A note that was parsed and not verified."""

    text: str
    signatures: tuple[tuple[str, bytes], ...]
    """Name of the key, and its id with the signature."""

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse a note.  Raises `ProofRefused`."""
        try:
            whole = raw.decode()
        except UnicodeDecodeError:
            raise ProofRefused("the checkpoint is not text") from None
        text, empty, signed = whole.rpartition("\n\n")
        if not empty or len(raw) > MAX_NOTE_BYTES or _CONTROL.search(whole):
            raise ProofRefused("the checkpoint is not a signed note")
        lines = [_LINE.fullmatch(line) for line in signed.removesuffix("\n").split("\n")]
        try:
            found = tuple((m[1], base64.b64decode(m[2], validate=True)) for m in lines if m)
        except binascii.Error:
            found = ()
        if not found or len(found) != len(lines) or not signed.endswith("\n"):
            raise ProofRefused("the checkpoint has a malformed signature")
        return cls(text + "\n", found)

    def verify(self, key: PublicKey) -> int:
        """Verify the signature of this key; return a cosigner's time, or 0.

        Raises `ProofRefused` if there is none, or if one of them does not hold.
        """
        wanted = (key.name, key.id)
        found = [s[ID_BYTES:] for name, s in self.signatures if (name, s[:ID_BYTES]) == wanted]
        if not found:
            raise ProofRefused(f"there is no signature of {key.name}")
        return max(_verify(key, self.text, signature) for signature in found)


def _verify(key: PublicKey, text: str, signature: bytes) -> int:
    signed, time_s = text.encode(), 0
    if key.kind is Kind.COSIGNATURE:
        time_s = int.from_bytes(signature[:TIME_BYTES], "big")
        signature, signed = signature[TIME_BYTES:], _cosigned(text, time_s)
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, signed)
    except InvalidSignature:
        raise ProofRefused(f"the signature of {key.name} does not hold") from None
    return time_s


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()

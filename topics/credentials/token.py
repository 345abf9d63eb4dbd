"""API keys as a caller presents them.

    es_image_4f7q0d2m9xkt_3v0c...        es, kind, id, secret

The beginning up to the id is shown in lists; the secret has 192 random bits and is shown once.
Only lower-case letters, digits and `_`: a double click selects all of it.  Pure.
"""

import hashlib
import re
from collections.abc import Callable
from typing import NamedTuple

from erasestream.schemas.events.credentials import CredentialKind

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 12
_SECRET_LENGTH = 38  # of 36 digits each: 196 bits
_TOKEN = re.compile(
    rf"es_(image|owner)_([0-9a-z]{{{_ID_LENGTH}}})_[0-9a-z]{{{_SECRET_LENGTH}}}", re.ASCII
)


class Token(NamedTuple):
    """A key's text, and what is stored of it."""

    text: str
    kind: CredentialKind
    key_id: str
    sha256: str

    def __repr__(self) -> str:
        return f"Token({prefix(self.kind, self.key_id)!r})"


def prefix(kind: CredentialKind, key_id: str) -> str:
    """Return the part of a key that may be shown."""
    return f"es_{kind}_{key_id}"


def new_token(kind: CredentialKind, random: Callable[[int], bytes]) -> Token:
    """Return a new key of this kind."""
    key_id, secret = _text(random, _ID_LENGTH), _text(random, _SECRET_LENGTH)
    text = f"{prefix(kind, key_id)}_{secret}"
    return Token(text, kind, key_id, _digest(text))


def parse_token(text: str) -> Token | None:
    """Return the parts of a presented text; None if it cannot be a key."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        return None
    return Token(text, CredentialKind(found[1]), found[2], _digest(text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(random: Callable[[int], bytes], length: int) -> str:
    """Return evenly distributed digits."""
    number = int.from_bytes(random(length))
    return "".join(_DIGITS[number // 36**place % 36] for place in range(length))

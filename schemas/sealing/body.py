"""The encrypted body of a sealed picture: one key opens it, and knows no recipient.

A process that gets nothing but a `BodyCipher` can decrypt or encrypt this one picture.
"""

import io
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from erasestream.schemas.errors import SealBroken
from erasestream.schemas.sealing.recipients import TAG_BYTES, ZERO_NONCE


@dataclass(frozen=True)
class BodyCipher:
    """The key of a body, and the context to which the body is bound."""

    key: bytes = field(repr=False)
    context: bytes

    def encrypt(self, plaintext: bytes, *, head: bytes = b"") -> bytes:
        """Return the body, after `head`.  A key encrypts one plaintext only: the nonce is zero."""
        whole = io.BytesIO()  # joining them takes as long as encrypting, for the memory of a copy
        whole.write(head)
        whole.seek(len(head) + len(plaintext) + TAG_BYTES - 1)
        whole.write(b"\0")
        with whole.getbuffer() as view:
            self.encrypt_into(plaintext, view[len(head) :])
        return whole.getvalue()

    def encrypt_into(self, plaintext: bytes, body: memoryview) -> None:
        """Write the body into memory of exactly its size, which never holds the plaintext."""
        AESGCM(self.key).encrypt_into(ZERO_NONCE, plaintext, self.context, body)

    def decrypt(self, body: bytes | memoryview) -> bytes:
        """Return the plaintext.  Raises `SealBroken`."""
        try:
            return AESGCM(self.key).decrypt(ZERO_NONCE, body, self.context)
        except InvalidTag:
            raise SealBroken from None

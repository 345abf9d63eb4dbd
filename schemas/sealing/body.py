"""The encrypted body of a sealed picture: one key opens it, and knows no recipient.

A process that gets nothing but a `BodyCipher` can decrypt or encrypt this one picture.
"""

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from erasestream.schemas.errors import SealBroken
from erasestream.schemas.sealing.recipients import ZERO_NONCE


@dataclass(frozen=True)
class BodyCipher:
    """The key of a body, and the context to which the body is bound."""

    key: bytes = field(repr=False)
    context: bytes

    def encrypt(self, plaintext: bytes) -> bytes:
        """Return the body.  A key encrypts one plaintext only, since the nonce is zero."""
        return AESGCM(self.key).encrypt(ZERO_NONCE, plaintext, self.context)

    def encrypt_into(self, plaintext: bytes, body: memoryview) -> None:
        """Write the body into memory of exactly its size, which never holds the plaintext."""
        AESGCM(self.key).encrypt_into(ZERO_NONCE, plaintext, self.context, body)

    def decrypt(self, body: bytes | memoryview) -> bytes:
        """Return the plaintext.  Raises `SealBroken`."""
        try:
            return AESGCM(self.key).decrypt(ZERO_NONCE, body, self.context)
        except InvalidTag:
            raise SealBroken from None

"""The ciphers of one sealed image, as a child gets them: it has no other key.

ciphers   of the photo, then of the cut-out: key (32), context bytes (u8), context
"""

from typing import NamedTuple

from erasestream.schemas.sealing.body import BodyCipher
from erasestream.schemas.sealing.recipients import KEY_BYTES


class ImageCiphers(NamedTuple):
    """The ciphers of a photo and of its cut-out."""

    photo: BodyCipher
    cutout: BodyCipher

    def encode(self) -> bytes:
        """Encode for a request."""
        pair = (self.photo, self.cutout)
        return b"".join(each.key + bytes([len(each.context)]) + each.context for each in pair)

    @classmethod
    def parse(cls, raw: bytes) -> "ImageCiphers":
        """Parse the parent's encoding."""
        end = KEY_BYTES + 1 + raw[KEY_BYTES]
        return cls(_cipher(raw[:end]), _cipher(raw[end:]))


def _cipher(raw: bytes) -> BodyCipher:
    return BodyCipher(raw[:KEY_BYTES], raw[KEY_BYTES + 1 :])

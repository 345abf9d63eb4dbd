"""The content type of an event whose image is sealed, and its size.  Imports no cryptography.

The image's own content type is then in the envelope, which authenticates it.
"""

SEALED_CONTENT_TYPE = "application/vnd.erasestream.sealed"
SEALED_OVERHEAD_BYTES = 1024
"""Most that sealing adds to an image."""


def is_sealed(content_type: str) -> bool:
    """Return whether an event with this content type has an envelope in place of an image."""
    return content_type == SEALED_CONTENT_TYPE

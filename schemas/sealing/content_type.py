"""The content type that tells that an event's image is sealed.  Imports no cryptography.

The image's own content type is then in the envelope, which authenticates it.
"""

SEALED_CONTENT_TYPE = "application/vnd.erasestream.sealed"


def is_sealed(content_type: str) -> bool:
    """Return whether an event with this content type has an envelope in place of an image."""
    return content_type == SEALED_CONTENT_TYPE

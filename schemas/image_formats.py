"""Image formats, detected from the first bytes and never from a name.

A cheap check and no proof: only decoding shows whether an image is complete.  Pure.

Sources: ISO/IEC 10918-1 B.1.1.3 (JPEG: SOI, then a marker), PNG 5.2 (signature),
RFC 9649 section 2.4 (WebP in RIFF).
"""

JPEG = "image/jpeg"
PNG = "image/png"
WEBP = "image/webp"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8\xff"


def sniff_content_type(data: bytes) -> str | None:
    """Return `image/jpeg`, `image/png` or `image/webp`; None for anything else."""
    head = bytes(data[:12])
    if head.startswith(_JPEG_START):
        return JPEG
    if head.startswith(_PNG_SIGNATURE):
        return PNG
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    return None

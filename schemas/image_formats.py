"""Image formats, detected from the first bytes and never from a name.

A cheap check and no proof: only decoding shows whether an image is complete.  Pure.

Sources: ISO/IEC 10918-1 B.1.1.3 (JPEG: SOI, then a marker), PNG 5.2 (signature),
RFC 9649 section 2.4 (WebP in RIFF).
"""

JPEG = "image/jpeg"
PNG = "image/png"
WEBP = "image/webp"
ZIP = "application/zip"
"""Colour and alpha of a cut-out; never an upload."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8\xff"
_ZIP_START = b"PK\x03\x04"


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


def begins_as(content_type: str, data: bytes) -> bool:
    """Return whether a cut-out begins as its format does."""
    if content_type == ZIP:
        return data.startswith(_ZIP_START)
    return sniff_content_type(data) == content_type

"""Size limits of images and of their cut-outs.

`Settings` may lower them; larger images fit neither topics nor the memory of a child.
"""

from dataclasses import dataclass

from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import (
    MAX_CUTOUT_BYTES,
    MAX_CUTOUT_PIXELS,
    MAX_PIXELS,
    MAX_UPLOAD_BYTES,
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest images that are accepted, and largest cut-outs that are returned."""

    max_bytes: int = MAX_UPLOAD_BYTES
    max_pixels: int = MAX_PIXELS
    max_cutout_pixels: int = MAX_CUTOUT_PIXELS
    """Larger pictures are scaled down as soon as they are decoded, before the model needs memory:
    until then 100 megapixels take up to 1.5 GB (measured, with transparency).  Later a pixel takes
    4 bytes in the picture, 4 in its cut-out and up to 20 in the WebP encoder: a child with IS-Net,
    which needs 0.74 GB for itself, stays below 1.8 GB (1.58 measured, with a noisy photo)."""
    max_profile_bytes: int = 4_000_000
    """Printer profiles reach 3 MB; a longer profile is ignored."""
    max_result_bytes: int = MAX_CUTOUT_BYTES

    def detail_for(self, code: Code) -> str:
        """Return the limit behind a refusal, as it is set; empty if there is none."""
        match code:
            case Code.TOO_LARGE:
                return f"at most {self.max_bytes / 1e6:g} MB"
            case Code.RESULT_TOO_LARGE:
                return f"at most {self.max_result_bytes / 1e6:g} MB"
            case Code.TOO_MANY_PIXELS:
                return f"at most {self.max_pixels / 1e6:g} megapixels"
            case _:
                return ""


LIMITS = Limits()

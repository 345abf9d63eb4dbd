"""Small copies of image files, for pages that show pictures."""

import io

from PIL import Image

from erasestream.pipeline.stages.inference.imaging.decode import decode


def preview(data: bytes, *, longest: int) -> bytes:
    """Return a WebP with at most `longest` pixels on its longer side.  Raises as `decode`."""
    small = decode(data).image
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=82, method=4)
    return file.getvalue()

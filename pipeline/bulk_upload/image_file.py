"""Read an image file of a manifest, within the limits of an upload."""

from pathlib import Path

from erasestream.schemas.errors import Code, InvalidImage
from erasestream.topics.client.image_source import read_file


def read_image(path: Path) -> bytes | Code:
    """Return the bytes of an image file, or the code of the reason why it cannot be uploaded."""
    try:
        return read_file(path)
    except InvalidImage as error:
        return error.code

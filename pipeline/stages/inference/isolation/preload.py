"""Import now what libraries import on first use: once restricted, no file can be opened.

`test_isolation.py` cuts out pictures of all kinds in the sandbox, and fails if a module is missing
here.
"""

from contextlib import suppress
from importlib import import_module

from erasestream.schemas.errors import InvalidInput
from erasestream.schemas.options import CutoutOptions
from erasestream.schemas.sealing.body import BodyCipher
from erasestream.schemas.sealing.recipients import KEY_BYTES

MODULES = (
    "PIL.BmpImagePlugin",
    "PIL.ExifTags",
    "PIL.GifImagePlugin",
    "PIL.ImageCms",
    "PIL.ImageFile",
    "PIL.ImageMath",
    "PIL.ImageMode",
    "PIL.ImagePalette",
    "PIL.ImageSequence",
    "PIL.JpegImagePlugin",
    "PIL.JpegPresets",
    "PIL.MpoImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.PpmImagePlugin",
    "PIL.TiffImagePlugin",
    "PIL.WebPImagePlugin",
    "encodings.ascii",
    "encodings.cp1252",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_16",
    "encodings.utf_16_be",
    "encodings.utf_16_le",
    "numpy.linalg",
    "traceback",
)


def preload() -> None:
    """Import the modules in the zygote, from which its children inherit them."""
    for name in MODULES:
        import_module(name)
    with suppress(InvalidInput):
        CutoutOptions.from_json("{")
    # OpenSSL looks for its settings and loads its algorithms when it is first used.
    cipher = BodyCipher(bytes(KEY_BYTES), b"")
    cipher.decrypt(cipher.encrypt(b""))

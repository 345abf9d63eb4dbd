"""Read an image from what callers have: bytes, a path, or a binary file.

Reads no more bytes than one upload may have.
"""

import io
import os
import stat
from typing import BinaryIO

from erasestream.schemas.errors import Code, InvalidImage
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES

ImageSource = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""The image's own bytes, the path of its file, or a file that is open for reading bytes."""


def read_image(source: ImageSource) -> bytes:
    """Return the bytes of an image: of a `BytesIO` all, of another open file what is left.

    Raises `InvalidImage` (too_large, missing_file, unreadable_file, unsupported_format).
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, bytearray | memoryview):
        view = memoryview(source)
        if view.nbytes > MAX_UPLOAD_BYTES:
            raise InvalidImage(code=Code.TOO_LARGE)
        return view.tobytes()
    if isinstance(source, str | os.PathLike):
        return read_file(source)
    if isinstance(source, io.BytesIO) and not source.closed:
        return source.getvalue()  # wherever the last write has left its position
    return _read_open_file(source)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an image file.

    Raises `InvalidImage` (too_large, missing_file, unreadable_file); without the path, which may
    be anything.
    """
    try:
        # Without O_NONBLOCK opening a named pipe would wait for a writer.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidImage(code=Code.MISSING_FILE) from None
    except (OSError, ValueError):  # ValueError: the path holds a null byte, say
        raise InvalidImage(code=Code.UNREADABLE_FILE) from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidImage(code=Code.UNREADABLE_FILE)
        if status.st_size > MAX_UPLOAD_BYTES:
            raise InvalidImage(code=Code.TOO_LARGE)
        with os.fdopen(file, "rb", closefd=False) as opened:
            return opened.read(MAX_UPLOAD_BYTES + 1)
    except OSError:
        raise InvalidImage(code=Code.UNREADABLE_FILE) from None
    finally:
        os.close(file)


def _read_open_file(source: BinaryIO) -> bytes:
    kind = type(source).__name__
    if not callable(getattr(source, "read", None)):
        raise InvalidImage(f"bytes, a path or a binary file is needed, not {kind}")
    try:
        data: object = source.read(MAX_UPLOAD_BYTES + 1)
    except (OSError, ValueError):  # ValueError: it is closed, or no text in its encoding
        raise InvalidImage(code=Code.UNREADABLE_FILE) from None
    if not isinstance(data, bytes):
        raise InvalidImage(f"a file that is open for bytes is needed, not {kind}")
    return data

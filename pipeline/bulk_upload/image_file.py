"""Read an image file of a manifest, within the limits of an upload."""

import os
import stat
from pathlib import Path

from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES


def read_image(path: Path) -> bytes | Code:
    """Return the bytes of an image file, or the code of the reason why it cannot be uploaded.

    Reads no more bytes than one upload may have.
    """
    try:
        # Without O_NONBLOCK opening a named pipe would wait for a writer.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return Code.MISSING_FILE
    except (OSError, ValueError):  # ValueError: the path holds a null byte, say
        return Code.UNREADABLE_FILE
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return Code.UNREADABLE_FILE
        if status.st_size > MAX_UPLOAD_BYTES:
            return Code.TOO_LARGE
        with os.fdopen(file, "rb", closefd=False) as opened:
            return opened.read(MAX_UPLOAD_BYTES + 1)
    except OSError:
        return Code.UNREADABLE_FILE
    finally:
        os.close(file)

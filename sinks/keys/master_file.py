"""A master key as a file of 32 raw bytes in a private folder: `<version>.key`."""

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from erasestream.schemas.errors import Code, Refused, SealBroken, Unavailable
from erasestream.sinks.keys.keyring import KEY_BYTES
from erasestream.sinks.secret_file import MODES, is_exposed

SUFFIX = ".key"


def cipher_of(path: Path, salt: bytes, *, info: bytes) -> AESGCM:
    """Return the cipher of a key that is derived from the master key for one use.

    Raises `SealBroken` if there is no such file, `Refused` if it is exposed or too short.
    """
    try:
        with path.open("rb") as file:
            exposed = is_exposed(os.fstat(file.fileno()))
            master = file.read(KEY_BYTES + 1)
    except FileNotFoundError:
        raise SealBroken from None
    except OSError as error:
        raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
    if exposed or len(master) != KEY_BYTES:
        raise Refused(f"key file {path.name} must hold {KEY_BYTES} bytes and be {MODES}")
    hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info)
    return AESGCM(hkdf.derive(master))


def write_master(path: Path) -> None:
    """Write a new key file: complete and flushed when it appears, and never over another."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()


def destroy_master(path: Path) -> None:
    """Delete a key file, and what a killed writer left of it; flush the folder.  Idempotent."""
    for found in (path, *path.parent.glob(f".{path.name}.*")):
        found.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

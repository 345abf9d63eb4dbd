"""A master key as a file of 32 raw bytes in a private folder: `<version>.key`.

Each wrap derives a key of its own from the master key and a fresh salt, so the nonce is zero and a
master key may wrap any number of keys.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from erasestream.schemas.errors import Code, Refused, SealBroken, Unavailable
from erasestream.sinks.keys.keyring import KEY_BYTES, MAX_KEYS, check_keys
from erasestream.sinks.secret_file import MODES, is_exposed

SUFFIX = ".key"
SALT_BYTES = 32
TAG_BYTES = 16
WRAPPED_BYTES = SALT_BYTES + KEY_BYTES + TAG_BYTES
"""Length of one wrapped key."""
MAX_WRAPPED_BYTES = WRAPPED_BYTES + (MAX_KEYS - 1) * KEY_BYTES
ZERO_NONCE = bytes(12)


def wrap_key(
    path: Path, key: bytes, context: bytes, *, info: bytes, random: Callable[[int], bytes]
) -> bytes:
    """Wrap keys of 32 bytes for this context; `random` is called once, for the salt.

    Raises `SealBroken` if there is no such file, `Refused` if it is exposed or too short.
    """
    check_keys(key)
    salt = random(SALT_BYTES)
    return salt + _cipher(path, salt, info).encrypt(ZERO_NONCE, key, context)


def unwrap_key(path: Path, wrapped: bytes, context: bytes, *, info: bytes) -> bytes:
    """Return the keys that were wrapped for this context.  Raises as `wrap_key`."""
    if not WRAPPED_BYTES <= len(wrapped) <= MAX_WRAPPED_BYTES:
        raise SealBroken
    salt, sealed = wrapped[:SALT_BYTES], wrapped[SALT_BYTES:]
    try:
        return _cipher(path, salt, info).decrypt(ZERO_NONCE, sealed, context)
    except InvalidTag:
        raise SealBroken from None


def read_master(path: Path) -> bytes:
    """Return a master key.  Raises as `wrap_key`."""
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
    return master


def _cipher(path: Path, salt: bytes, info: bytes) -> AESGCM:
    hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info)
    return AESGCM(hkdf.derive(read_master(path)))


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
    flush_folder(path.parent)


def destroy_master(path: Path) -> None:
    """Delete a key file, and what a killed writer left of it; flush the folder.  Idempotent.

    Raises `Refused` for a link: the key that it leads to would be left.
    """
    if path.is_symlink():
        raise Refused(f"key file {path.name} is a link: delete what it leads to, then the link")
    for found in (*_drafts(path), path):
        found.unlink(missing_ok=True)
    flush_folder(path.parent)


def is_destroyed(path: Path) -> bool:
    """Return whether neither a key file is there nor what a killed writer left of it.

    A link that leads nowhere is there: its key may be on a disk that is not mounted.
    """
    with suppress(FileNotFoundError):
        path.lstat()
        return False
    return not any(_drafts(path))


def _drafts(path: Path) -> Iterator[Path]:
    return path.parent.glob(f".{path.name}.*")


def flush_folder(folder: Path) -> None:
    """Make what was created or deleted in a folder outlive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

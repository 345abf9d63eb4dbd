"""The files of a log and its auditor, and the settings that name them."""

import os
from collections.abc import Mapping
from pathlib import Path

from erasestream.schemas.errors import Refused
from erasestream.sinks.log.signed_note import KEY_BYTES, Kind, PublicKey, SigningKey
from erasestream.sinks.secret_file import read_secret

LOG_KEY, AUDITOR_KEY, SECRET = "log.key", "auditor.key", "secret"
LOG_PUBLIC, AUDITOR_PUBLIC = "log.pub", "auditor.pub"
MAX_FILE_BYTES = 1_000


def make_keys(folder: Path, *, log: str, auditor: str) -> Mapping[str, str]:
    """Make the files in a folder; return the settings.

    Raises `Refused` if one of them exists, and changes nothing.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = [folder / name for name in (LOG_KEY, AUDITOR_KEY, SECRET)]
    if any(path.exists() for path in paths):
        raise Refused(f"{folder} has keys of a log, which never change: name another folder")
    for path in paths:
        _create(path, os.urandom(KEY_BYTES))
    settings = settings_of(folder, log=log, auditor=auditor)
    for name, setting in ((LOG_PUBLIC, "log_key"), (AUDITOR_PUBLIC, "auditor_key")):
        _create(folder / name, f"{settings[setting]}\n".encode())
    return settings


def _create(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def public_key(text: str) -> PublicKey:
    """Return a public key that is given as text, or as the path of a file with it.

    Raises `ProofRefused` if it is none, and `OSError` if the file cannot be read.
    """
    if "+" not in text:
        with Path(text).open(errors="replace") as file:
            text = file.read(MAX_FILE_BYTES)
    return PublicKey.parse(text)


def settings_of(folder: Path, *, log: str, auditor: str) -> Mapping[str, str]:
    """Return the section `receipts` for the files in a folder."""
    log_key = SigningKey(log, Kind.LOG, read_secret(folder / LOG_KEY, size=KEY_BYTES))
    raw = read_secret(folder / AUDITOR_KEY, size=KEY_BYTES)
    auditor_key = SigningKey(auditor, Kind.COSIGNATURE, raw)
    return {
        "log_key": str(log_key.public),
        "auditor_key": str(auditor_key.public),
        "signing_key": str(folder / LOG_KEY),
        "auditor_signing_key": str(folder / AUDITOR_KEY),
        "secret": str(folder / SECRET),
    }

"""The private files of a log and its auditor, and the settings that name them."""

import os
from collections.abc import Mapping
from pathlib import Path

from erasestream.schemas.errors import Refused
from erasestream.sinks.log.signed_note import KEY_BYTES, Kind, SigningKey
from erasestream.sinks.secret_file import read_secret

LOG_KEY, AUDITOR_KEY, SECRET = "log.key", "auditor.key", "secret"


def make_keys(folder: Path, *, log: str, auditor: str) -> Mapping[str, str]:
    """Make the files in a folder; return the settings.

    Raises `Refused` if one of them exists, and changes nothing.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = [folder / name for name in (LOG_KEY, AUDITOR_KEY, SECRET)]
    if any(path.exists() for path in paths):
        raise Refused(f"{folder} has keys of a log, which never change")
    for path in paths:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
    return settings_of(folder, log=log, auditor=auditor)


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

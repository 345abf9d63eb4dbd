"""Open the keyring of the grants' master key: files, or Cloud KMS."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from erasestream.pipeline.settings import StorageSettings
from erasestream.schemas.errors import Refused
from erasestream.sinks.keys.keyring import Keyring
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.topics.catalog.roles import ADMIN, Role

if TYPE_CHECKING:
    from erasestream.sinks.keys.cloud_kms_client import KmsSettings


@contextmanager
def open_keyring(storage: StorageSettings, role: Role) -> Iterator[Keyring]:
    """Open the keyring as a role.  Raises `Refused` if it cannot be used."""
    if storage.keyring is not None:
        yield LocalKeyring(storage.keyring)
        return
    settings = kms_settings(storage, role)
    # Only those that use Cloud KMS have its packages.
    from erasestream.sinks.keys.cloud_kms_keyring import CloudKmsKeyring  # noqa: PLC0415

    with closing(CloudKmsKeyring(settings)) as keyring:
        yield keyring


def create_keyring(storage: StorageSettings, *, destroyed_within: timedelta) -> str:
    """Create the master key with its first version, as the administrator; return its name.

    Raises `Refused` if there is one.
    """
    if storage.keyring is not None:
        LocalKeyring.create(storage.keyring)
        return str(storage.keyring)
    settings = kms_settings(storage, ADMIN)
    from erasestream.sinks.keys.cloud_kms_key import create_key  # noqa: PLC0415

    create_key(settings, destroyed_within=destroyed_within)
    return settings.key


def kms_settings(storage: StorageSettings, role: Role) -> "KmsSettings":
    """Return how a role reaches the master key in Cloud KMS.  Raises `Refused` if none is set."""
    if storage.kms_key is None:
        raise Refused("settings: storage.kms_key is missing")
    if find_spec("grpc") is None:
        raise Refused("settings: storage.kms_key needs pip install 'erasestream[kms]'")
    from erasestream.sinks.keys.cloud_kms_client import GOOGLE, KmsSettings  # noqa: PLC0415

    return KmsSettings(
        key=storage.kms_key,
        endpoint=storage.kms_endpoint or GOOGLE,
        ca_file=storage.ca if storage.kms_endpoint else None,
        token_file=storage.tokens / f"{role}.token"
        if storage.tokens and storage.kms_endpoint
        else None,
    )

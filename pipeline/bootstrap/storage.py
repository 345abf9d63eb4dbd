"""Open buckets and keys."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from erasestream.pipeline.bootstrap.keyring import open_keyring
from erasestream.pipeline.settings import Settings, StorageSettings
from erasestream.schemas.errors import Refused
from erasestream.schemas.sealing.envelope import MAX_SEALED_BYTES
from erasestream.sinks.buckets.access_policy import IMAGES, VAULT, Action, Rule, allows, rules_of
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.buckets.gcs_client import GOOGLE, GcsSettings
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.keys.key_vault import KeyVaultReader
from erasestream.topics.catalog.roles import READER, Role


def storage_of(settings: Settings) -> StorageSettings:
    """Return the storage section.  Raises `Refused` if the settings have none."""
    if settings.storage is None:
        raise Refused("settings: the section storage is missing")
    return settings.storage


def open_images(storage: StorageSettings, role: Role) -> GcsObjectStore:
    """Open the image bucket as a role, and check that the role has all its rights.

    A role that writes also verifies that the bucket is private and forgets.
    Raises `Refused` or `Unavailable`.
    """
    return _open(storage, storage.bucket, role, IMAGES)


def open_vault(storage: StorageSettings, role: Role) -> GcsObjectStore:
    """Open the vault as a role, as `open_images` does."""
    return _open(storage, storage.vault, role, VAULT)


def _open(
    storage: StorageSettings, name: str, role: Role, policy: tuple[Rule, ...]
) -> GcsObjectStore:
    store = GcsObjectStore(
        GcsSettings(
            bucket=name,
            max_object_bytes=MAX_SEALED_BYTES,
            endpoint=storage.endpoint or GOOGLE,
            ca_file=storage.ca,
            token_file=storage.tokens / f"{role}.token" if storage.tokens else None,
        )
    )
    try:
        rules = rules_of(policy, role)
        store.check(rules)
        if allows(rules, role, Action.POLICY):
            store.verify_private()
    except BaseException:
        store.close()
        raise
    return store


@contextmanager
def retained_reader(settings: Settings) -> Iterator[RetainedReader]:
    """Open the retained pictures as the role reader, as a training service does."""
    storage = storage_of(settings)
    with ExitStack() as opened:
        images = opened.enter_context(open_images(storage, READER))
        vault = opened.enter_context(open_vault(storage, READER))
        keyring = opened.enter_context(open_keyring(storage, READER))
        keys = KeyVaultReader(store=vault, keyring=keyring, clock=time.monotonic)
        yield RetainedReader(store=images, vault=keys, clock=time.monotonic)

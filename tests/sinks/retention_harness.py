"""Both buckets with their roles, for tests of what is retained."""

import hashlib
from datetime import UTC, datetime
from typing import Any, NamedTuple

from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.images.capsule_keys import CapsuleKeys
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.sinks.images.object_names import ObjectNamer, StoredName
from erasestream.sinks.keys.key_vault import KeyVault, KeyVaultReader
from erasestream.sinks.keys.local_keyring import LocalKeyring

NAME_KEY = bytes(range(32))

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class RetentionHarness(NamedTuple):
    """Both buckets, the keyring and the clock of one test."""

    stack: Any
    keyring: LocalKeyring
    clock: ManualClock

    def vault(self) -> KeyVault:
        store = self.stack.store("vault", Role.SINK)
        return KeyVault(store=store, keyring=self.keyring, clock=self.clock)

    def sink(
        self,
        vault: KeyVault | None = None,
        store: GcsObjectStore | None = None,
        capsules: CapsuleKeys | None = None,
    ) -> EncryptionSink:
        return EncryptionSink(
            store=store or self.stack.store("images", Role.SINK),
            vault=vault or self.vault(),
            name_key=NAME_KEY,
            capsules=capsules,
        )

    def reader(self, images: GcsObjectStore | None = None) -> RetainedReader:
        vault = KeyVaultReader(
            store=self.stack.store("vault", Role.READER), keyring=self.keyring, clock=self.clock
        )
        images = images or self.stack.store("images", Role.READER)
        return RetainedReader(store=images, vault=vault, clock=self.clock)

    def eraser(self) -> GcsObjectStore:
        """Return the vault with the eraser's rights."""
        store: GcsObjectStore = self.stack.store("vault", Role.ERASER)
        return store


def picture(grant: GrantId, data: bytes = b"\x89PNG\r\n\x1a\n pixels", **changes: Any) -> Retained:
    values: dict[str, Any] = {
        "id": UploadId("018f3c4e-0000-7000-8000-000000000001"),
        "time": NOW,
        "lane": Lane("shop"),
        "account": AccountId(f"account-{grant}"),
        "part": Part.ORIGINAL,
        "grant": grant,
        "mark": "0/7",
        "position": Position(topic_id="A" * 22, partition=0, offset=7),
        "uploaded_at": NOW,
        "content_type": "image/png",
        "data": data,
    }
    return Retained(**values | changes)


def name_of(event: Retained, name_key: bytes = NAME_KEY) -> StoredName:
    """Return the name under which a picture is stored."""
    return ObjectNamer(name_key).name(event, hashlib.sha256(event.data).digest())


def listed(harness: RetentionHarness, event: Retained) -> list[str]:
    """Return the names that the reader lists of an event's owner."""
    owner = ObjectNamer(NAME_KEY).owner(event.lane, event.account)
    return [found.name for found in harness.reader().list(owner)]

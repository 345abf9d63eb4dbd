"""Key pairs of epochs in the vault: created once, given out until they die, then destroyed.

    epochs/<purpose>/<epoch>       public key, and the private key under the epoch's master key
    destroyed/<purpose>/<epoch>    SHA-256 of the public key, until all of its end is in the ledger
    destroyed/<purpose>/<epoch>/reported    its deletion is in the ledger
    epochs/folder-id               the id of the folder of master keys

Rules, all of them:

* A pair is random, X25519, and derived from nothing.  Of replicas that create one at once one
  wins, and the others read the winner's.
* Only pairs of this epoch and the next are created: one that was deleted never comes back.
* Nothing is returned for a dead epoch, whatever the vault or the cache holds.
* A private key unwraps for its own purpose, epoch and public key only.
* Destroying writes the note below `destroyed/`, then deletes the pair, then verifies its absence.

Time is the caller's: every method takes the key service's own.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.schemas.errors import AlreadyExists, Code, NotFound, SealBroken, Unavailable
from erasestream.sinks.buckets.access_policy import DESTROYED, EPOCHS
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.keys.epoch_masters import EpochMasters
from erasestream.sinks.keys.keyring import KEY_BYTES
from erasestream.sinks.keys.master_file import WRAPPED_BYTES

OCTETS = "application/octet-stream"
PAIR_BYTES = KEY_BYTES + WRAPPED_BYTES
DIGEST_BYTES = 32
REPORTED = "/reported"
FOLDER_ID = f"{EPOCHS}folder-id"
_NAME = re.compile(rf"[a-z]+/([a-z][a-z0-9.-]{{0,63}})/(0|[1-9][0-9]{{0,17}})({REPORTED})?")


class Times(Protocol):
    """The epochs' times, as far as the vault needs them."""

    def offered(self, at: datetime) -> range:
        """Return the epochs whose keys are published: that of this time and the next."""

    def is_dead(self, number: int, at: datetime) -> bool:
        """Return whether the keys of an epoch are dead."""

    def is_due(self, number: int, at: datetime) -> bool:
        """Return whether the keys of an epoch are to be destroyed: dead, or of no epoch of ours."""


class KeyName(NamedTuple):
    """A purpose and the number of an epoch."""

    purpose: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.purpose}/{self.epoch}"


class KeyPair(NamedTuple):
    """The raw keys of a pair, 32 bytes each."""

    public: bytes
    private: bytes

    def __repr__(self) -> str:
        return "KeyPair(...)"


class DestroyedPair(NamedTuple):
    """A pair whose absence was verified, and the SHA-256 of its public key."""

    name: KeyName
    public_key_sha256: str
    """Empty if the note is broken."""
    is_reported: bool


class EpochVault:
    """All pairs of keys.  Thread-safe."""

    def __init__(self, *, store: ObjectStore, masters: EpochMasters, times: Times) -> None:
        self._store = store
        self._masters = masters
        self._times = times
        self._lock = threading.Lock()
        self._cache: dict[KeyName, KeyPair] = {}

    def verify_masters(self) -> None:
        """Verify that the folder of master keys is this vault's; new ones are joined for good.

        Afterwards no other folder is used.  Raises `Refused` if it is another's.
        """
        try:
            known = self._store.read(FOLDER_ID, DIGEST_BYTES)
        except NotFound:
            with suppress(AlreadyExists):
                self._store.create(FOLDER_ID, self._masters.identity(), OCTETS)
            known = self._store.read(FOLDER_ID, DIGEST_BYTES)
        self._masters.require(known)

    def find(self, name: KeyName, at: datetime) -> KeyPair:
        """Return the pair.  Raises `NotFound` if it is dead or was never created."""
        if self._times.is_dead(name.epoch, at):
            raise NotFound(f"key {name} is dead")
        with self._lock:
            cached = self._cache.get(name)
        return cached or self._keep(name, self._read(name))

    def find_or_create(self, name: KeyName, at: datetime) -> KeyPair:
        """Return the pair of this epoch or the next, creating it if there is none."""
        try:
            return self.find(name, at)
        except NotFound:
            if name.epoch not in self._times.offered(at):
                raise
        self._create(name)
        # Read back, whichever replica created it.
        return self._keep(name, self._read(name))

    def drop_keys(self) -> None:
        """Drop all keys from memory."""
        with self._lock:
            self._cache.clear()

    def due(self, at: datetime) -> tuple[KeyName, ...]:
        """Return the pairs in the vault that are to be destroyed; drop dead ones from the cache."""
        with self._lock:
            for name in [n for n in self._cache if self._times.is_dead(n.epoch, at)]:
                del self._cache[name]
        return tuple(n for n, _ in self._list(EPOCHS) if self._times.is_due(n.epoch, at))

    def destroy(self, name: KeyName) -> None:
        """Delete a pair and verify its absence.  Idempotent.

        Raises `Unavailable` if it is still there.
        """
        with suppress(AlreadyExists, NotFound, SealBroken):
            raw = self._store.read(f"{EPOCHS}{name}", PAIR_BYTES)
            digest = hashlib.sha256(raw[:KEY_BYTES]).digest()
            self._store.create(f"{DESTROYED}{name}", digest, OCTETS)
        with suppress(NotFound):
            self._store.delete(f"{EPOCHS}{name}")
        with self._lock:
            self._cache.pop(name, None)
        if self._store.exists(f"{EPOCHS}{name}"):
            raise Unavailable(f"key {name} was deleted and is still there", Code.KEYS_UNAVAILABLE)

    def destroyed(self) -> Iterator[DestroyedPair]:
        """Yield each pair with a note of its destruction, whose absence is verified now."""
        found = self._list(DESTROYED)
        reported = {name for name, is_report in found if is_report}
        for name in [name for name, is_report in found if not is_report]:
            if self._store.exists(f"{EPOCHS}{name}"):
                continue
            with suppress(NotFound):  # another replica was faster
                yield DestroyedPair(name, self._noted(name), name in reported)

    def _noted(self, name: KeyName) -> str:
        digest = b""
        with suppress(SealBroken):
            digest = self._store.read(f"{DESTROYED}{name}", DIGEST_BYTES)
        return digest.hex() if len(digest) == DIGEST_BYTES else ""

    def mark_reported(self, name: KeyName) -> None:
        """Note that the ledger has the pair's deletion.  Idempotent."""
        with suppress(AlreadyExists):
            self._store.create(f"{DESTROYED}{name}{REPORTED}", b"", OCTETS)

    def forget(self, name: KeyName) -> None:
        """Delete the notes of a pair, once the ledger has all of its end.  Idempotent."""
        for note in (f"{DESTROYED}{name}{REPORTED}", f"{DESTROYED}{name}"):
            with suppress(NotFound):
                self._store.delete(note)

    def _list(self, prefix: str) -> list[tuple[KeyName, bool]]:
        found = (_NAME.fullmatch(each.name) for each in self._store.list(prefix))
        return [(KeyName(m[1], int(m[2])), m[3] is not None) for m in found if m]

    def _keep(self, name: KeyName, pair: KeyPair) -> KeyPair:
        with self._lock:
            self._cache[name] = pair
        return pair

    def _read(self, name: KeyName) -> KeyPair:
        raw = self._store.read(f"{EPOCHS}{name}", PAIR_BYTES)
        if len(raw) != PAIR_BYTES:
            raise SealBroken
        public, wrapped = raw[:KEY_BYTES], raw[KEY_BYTES:]
        private = self._masters.unwrap(name.epoch, wrapped, _context(name, public))
        return KeyPair(public, private)

    def _create(self, name: KeyName) -> None:
        key = X25519PrivateKey.generate()
        public = key.public_key().public_bytes_raw()
        wrapped = self._masters.wrap(name.epoch, key.private_bytes_raw(), _context(name, public))
        with suppress(AlreadyExists):
            self._store.create(f"{EPOCHS}{name}", public + wrapped, OCTETS)


def _context(name: KeyName, public: bytes) -> bytes:
    return f"{name}\0".encode() + public

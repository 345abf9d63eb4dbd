"""One key per grant of consent, wrapped by the keyring; destroying it is the erasure.

    keys/<grant>/<master version>    the grant's key, or keys, wrapped under that version
    erased/<grant>                   the marker: nothing is ever kept under this grant again
    erased/uploads/...               tombstones of single uploads (`erased_uploads.py`)

Rules, all of them:

* Erasing creates the marker first, then deletes the keys.  A user of a key reads the key
  first, then verifies that the marker is absent: in this order one of the two sees the other.
* The sink caches key and absence for 5 s at most, counted from before they were requested; then
  it fetches both again.  An answer that took longer is already too old: `Unavailable`.
* A reader caches keys alone, and reads the marker for every picture.
* Of racing creators one wins, and the others read the winner's key.  Every master version is
  searched for a key before one is created, since rotation moves keys: it creates the new name
  before it deletes the old one, so a second search finds the key.
* Creators that know different versions may create two keys: both open what they sealed, and
  rotation joins them (`key_rewrap.py`).
* A grant whose key is under a version that a person disabled gets no second one: it waits, and no
  other grant does.
"""

import os
from collections.abc import Callable, Iterator

from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import (
    AlreadyExists,
    Code,
    Erased,
    InvariantBroken,
    NotFound,
    SealBroken,
    Unavailable,
)
from erasestream.schemas.ids import GrantId, is_uuid
from erasestream.sinks.buckets.access_policy import MASTERS
from erasestream.sinks.buckets.object_store import ObjectReader, ObjectStore
from erasestream.sinks.keys.erased_uploads import ErasedUploads
from erasestream.sinks.keys.key_cache import KeyCache
from erasestream.sinks.keys.keyring import KEY_BYTES, Keyring, VersionState, split_keys
from erasestream.sinks.keys.shared_calls import SharedCalls

CACHE_LIMIT_S = 5.0
"""Longest time until the sink notices an erasure marker; deleting objects waits for it."""

MAX_WRAPPED_BYTES = 8192
OCTETS = "application/octet-stream"
SEARCHES = 2


def key_prefix(grant: GrantId) -> str:
    """Return the prefix of the names of all keys of a grant."""
    return f"keys/{_checked(grant)}/"


def marker_name(grant: GrantId) -> str:
    """Return the name of a grant's erasure marker."""
    return f"erased/{_checked(grant)}"


def mark_erased(store: ObjectStore, grant: GrantId) -> None:
    """Create the erasure marker.  Once this returns, every later read sees it.  Idempotent."""
    try:
        store.create(marker_name(grant), b"", OCTETS)
    except AlreadyExists:
        return


def destroyed_masters(store: ObjectReader) -> frozenset[str]:
    """Return the versions of the master key that the rotator noted as destroyed.

    It notes each after all before it.
    """
    return frozenset(info.name.removeprefix(MASTERS) for info in store.list(MASTERS))


def _checked(grant: GrantId) -> GrantId:
    if not is_uuid(grant):
        raise InvariantBroken("the grant id is not a UUID")
    return grant


class KeyVaultReader:
    """Read access to the vault: keys of grants that are not erased, and markers.

    Thread-safe.
    """

    def __init__(self, *, store: ObjectReader, keyring: Keyring, clock: Clock) -> None:
        self._reader = store
        self._keyring = keyring
        self._clock = clock
        self._cache = KeyCache(limit_s=CACHE_LIMIT_S, clock=clock)
        self._fetches = SharedCalls[GrantId, tuple[bytes, ...]]()
        self.uploads: ErasedUploads = ErasedUploads(store=store, limit_s=CACHE_LIMIT_S, clock=clock)

    def keys(self, grant: GrantId) -> tuple[bytes, ...]:
        """Return the grant's keys: one, or two where creators raced across a rotation.

        Reads the marker during every call, also if the keys are cached: one request.
        Raises `Erased` if the marker exists, `NotFound` if there is no key.
        """
        if keys := self._cache.get(grant):
            self.assert_not_erased(grant)
            return keys
        return self._fetch(grant, self._find)

    def recent_keys(self, grant: GrantId) -> tuple[bytes, ...]:
        """Return the grant's keys, whose marker was absent at most 5 s ago.  Raises as `keys`."""
        return self._cache.get(grant) or self._fetches.call(
            grant, lambda: self._fetch(grant, self._find)
        )

    def is_erased(self, grant: GrantId) -> bool:
        """Return whether the marker exists, as of now."""
        return self._reader.exists(marker_name(grant))

    def assert_not_erased(self, grant: GrantId) -> None:
        """Read the marker now.  If it exists, evict the grant's keys and raise `Erased`."""
        if self.is_erased(grant):
            self._cache.evict(grant)
            raise Erased(f"grant {grant}")

    def _fetch(
        self, grant: GrantId, fetch: Callable[[GrantId], tuple[bytes, ...]]
    ) -> tuple[bytes, ...]:
        """Fetch the keys, then read the marker, and cache both."""
        now_s = self._clock()
        keys = fetch(grant)
        self.assert_not_erased(grant)
        if self._clock() - now_s >= CACHE_LIMIT_S:
            detail = "the vault answers too slowly: its answer is already out of date"
            raise Unavailable(detail, Code.BUCKET_UNAVAILABLE)
        # Valid from before the marker was requested, not from when the answer arrived.
        self._cache.put(grant, keys, now_s)
        return keys

    def _find(self, grant: GrantId) -> tuple[bytes, ...]:
        for _ in range(SEARCHES):
            if found := tuple(dict.fromkeys(self._search(grant))):
                return found
        self.assert_not_erased(grant)
        raise NotFound(f"key of grant {grant}")

    def _search(self, grant: GrantId) -> Iterator[bytes]:
        for version in self._keyring.versions():
            try:
                wrapped = self._reader.read(key_prefix(grant) + version, MAX_WRAPPED_BYTES)
                keys = self._keyring.unwrap(version, wrapped, grant.encode())
            except NotFound:
                continue
            except SealBroken:
                if self._keyring.state(version) is VersionState.ENABLED:
                    raise
                continue  # rotation moved the key since, and destroyed the version
            yield from split_keys(keys)


class KeyVault(KeyVaultReader):
    """The vault for the sink, which creates a grant's key when it first needs it."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        keyring: Keyring,
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(store=store, keyring=keyring, clock=clock)
        self._store = store
        self._random = random

    def check_keyring(self) -> None:
        """Wrap a key that is not used.  Raises `Refused` or `Unavailable` if that cannot be."""
        self._keyring.wrap(bytes(KEY_BYTES), b"")

    def key(self, grant: GrantId) -> bytes:
        """Return the grant's key; a put under it must begin within 5 s.

        Raises `Erased` if the marker exists.  The caller checks the grant's consent.
        """
        keys = self._cache.get(grant) or self._fetches.call(
            grant, lambda: self._fetch(grant, self._find_or_create)
        )
        return keys[0]

    def mark_erased(self, grant: GrantId) -> None:
        """Create the erasure marker and evict the grant's keys."""
        mark_erased(self._store, grant)
        self._cache.evict(grant)

    def _find_or_create(self, grant: GrantId) -> tuple[bytes, ...]:
        asked_s = self._clock()
        try:
            return self._find(grant)
        except NotFound:
            self._assert_no_disabled_key(grant)
            self._create(grant, asked_s)
        # Read back, whichever process created it: pictures are sealed with the key readers find.
        return self._find(grant)

    def _assert_no_disabled_key(self, grant: GrantId) -> None:
        """Raise `Unavailable` if the grant has a key that may be unwrapped again."""
        prefix = key_prefix(grant)
        for info in self._store.list(prefix):
            version = info.name.removeprefix(prefix)
            try:
                state = self._keyring.state(version)
            except SealBroken:
                continue  # no version of this master key
            if state in {VersionState.DISABLED, VersionState.SCHEDULED}:
                raise Unavailable(f"grant {grant}: version {version}", Code.KEYRING_UNAVAILABLE)

    def _create(self, grant: GrantId, asked_s: float) -> None:
        """Create a key; the marker was absent at `asked_s` or later."""
        wrapped = self._keyring.wrap(self._random(KEY_BYTES), grant.encode())
        if self._clock() - asked_s >= CACHE_LIMIT_S:
            detail = "the marker was read too long ago to create a key"
            raise Unavailable(detail, Code.BUCKET_UNAVAILABLE)
        try:
            self._store.create(key_prefix(grant) + wrapped.version, wrapped.raw, OCTETS)
        except AlreadyExists:
            return

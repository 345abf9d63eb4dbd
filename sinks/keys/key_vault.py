"""One key per grant of consent, wrapped by the keyring; destroying it is the erasure.

    keys/<grant>/<master version>    the grant's key, wrapped under that version
    erased/<grant>                   the marker: nothing is kept under this grant, for ever

Rules, all of them:

* Erasing creates the marker first, then deletes the keys.  So whoever has a key in hand must
  see the marker absent *after* that, before using it: in this order one of the two sees the
  other.
* Key and absence are believed for 5 s at most, counted from before they were asked for; then
  both are fetched again.  An answer that took longer is too old when it comes: `Unavailable`.
* Of racing creators one wins, and the others read the winner's key.  A key is looked for
  under every master version before one is made, since rotation moves it: it creates the new
  name before it deletes the old, so looking twice finds it.
"""

import os
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from erasestream.schemas.errors import AlreadyExists, Erased, InvariantBroken, NotFound, Unavailable
from erasestream.schemas.ids import GrantId, is_uuid
from erasestream.sinks.buckets.object_store import ObjectReader, ObjectStore
from erasestream.sinks.images.envelope import KEY_BYTES
from erasestream.sinks.keys.local_keyring import Keyring

CACHE_LIMIT_S = 5.0
"""How long an erasure may go unnoticed by who uses a key; an erasure waits for it."""

MAX_WRAPPED_BYTES = 8192
OCTETS = "application/octet-stream"
LOOKS = 2

Clock = Callable[[], float]


def key_prefix(grant: GrantId) -> str:
    """What the names of all keys of a grant begin with."""
    return f"keys/{_checked(grant)}/"


def marker_name(grant: GrantId) -> str:
    """The name of a grant's erasure marker."""
    return f"erased/{_checked(grant)}"


def mark_erased(store: ObjectStore, grant: GrantId) -> None:
    """Create the erasure marker.  Once this returns, every later look at it sees it."""
    try:
        store.create(marker_name(grant), b"", OCTETS)
    except AlreadyExists:
        return


def _checked(grant: GrantId) -> GrantId:
    if not is_uuid(grant):
        raise InvariantBroken("a grant that is no UUID")
    return grant


class _Known(NamedTuple):
    keys: tuple[bytes, ...]
    since: float


class KeyVaultReader:
    """The vault for who may read it only: keys of living grants, and the markers.

    `clock` gives seconds that only grow.  Thread-safe.
    """

    def __init__(self, *, store: ObjectReader, keyring: Keyring, clock: Clock) -> None:
        self._reader = store
        self._keyring = keyring
        self._clock = clock
        self._known: dict[GrantId, _Known] = {}
        self._lock = threading.Lock()

    def keys(self, grant: GrantId) -> tuple[bytes, ...]:
        """The grant's keys: one, or two where creators raced across a rotation.

        Raises `Erased` if the marker stands, `NotFound` if there is no key.
        """
        return self._believed(grant, self._find)

    def is_erased(self, grant: GrantId) -> bool:
        """Whether the marker stands, as of now."""
        return self._reader.exists(marker_name(grant))

    def assert_not_erased(self, grant: GrantId) -> None:
        """Look at the marker now.  Raises `Erased`, and forgets the grant's keys."""
        if self.is_erased(grant):
            with self._lock:
                self._known.pop(grant, None)
            raise Erased(f"grant {grant}")

    def _believed(
        self, grant: GrantId, fetch: Callable[[GrantId], tuple[bytes, ...]]
    ) -> tuple[bytes, ...]:
        """What was fetched at most 5 s ago, or is fetched now."""
        now = self._clock()
        with self._lock:
            known = self._known.get(grant)
        if known and now - known.since < CACHE_LIMIT_S:
            return known.keys
        keys = fetch(grant)
        self.assert_not_erased(grant)
        if self._clock() - now >= CACHE_LIMIT_S:
            raise Unavailable("the vault answers too slowly for its answer to be believed")
        with self._lock:
            living = {g: k for g, k in self._known.items() if now - k.since < CACHE_LIMIT_S}
            # Believed since before the marker was asked for, not since the answer came.
            self._known = living | {grant: _Known(keys, now)}
        return keys

    def _find(self, grant: GrantId) -> tuple[bytes, ...]:
        for _ in range(LOOKS):
            if found := tuple(dict.fromkeys(self._look(grant))):
                return found
        self.assert_not_erased(grant)
        raise NotFound(f"key of grant {grant}")

    def _look(self, grant: GrantId) -> Iterator[bytes]:
        for version in self._keyring.versions():
            try:
                wrapped = self._reader.read(key_prefix(grant) + version, MAX_WRAPPED_BYTES)
            except NotFound:
                continue
            yield self._keyring.unwrap(version, wrapped, grant.encode())


class KeyVault(KeyVaultReader):
    """The vault for the sink, which makes a grant's key when it first needs it."""

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

    def key(self, grant: GrantId) -> bytes:
        """The grant's key; what is sealed under it within 5 s may be kept.

        Raises `Erased` if the marker stands.  The grant's consent is the caller's to check.
        """
        return self._believed(grant, self._find_or_create)[0]

    def mark_erased(self, grant: GrantId) -> None:
        """Create the erasure marker and forget the grant's keys."""
        mark_erased(self._store, grant)
        with self._lock:
            self._known.pop(grant, None)

    def _find_or_create(self, grant: GrantId) -> tuple[bytes, ...]:
        try:
            return self._find(grant)
        except NotFound:
            self._create(grant)
        # Read back, whoever created it: what seals is what a reader will find.
        return self._find(grant)

    def _create(self, grant: GrantId) -> None:
        wrapped = self._keyring.wrap(self._random(KEY_BYTES), grant.encode())
        try:
            self._store.create(key_prefix(grant) + wrapped.version, wrapped.raw, OCTETS)
        except AlreadyExists:
            return

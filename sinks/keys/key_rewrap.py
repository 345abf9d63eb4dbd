"""Move the keys of living grants from older versions of the master key to the newest.

Rules, all of them, for each grant:

* A grant that is marked as erased is left to the eraser: no key of it is created.
* The new name is created within 5 s of the marker's absence, and its put ends within 20 s, so that
  the eraser's last look, which is later, finds it.  Nothing is raised from the dead.
* A key is deleted only after the new name was read back and unwraps to it, and the marker is absent
  still.  So whatever is killed, and however many rewrap at once, no key is lost.
* Two keys, of sinks that knew different versions when they created the grant's first, are wrapped
  together.  If the newest version has one of them already they go under the next one: a name is
  never overwritten.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import AlreadyExists, Code, NotFound, SealBroken, Unavailable
from erasestream.schemas.ids import GrantId, is_uuid
from erasestream.sinks.buckets.access_policy import KEYS
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.keys.key_vault import (
    CACHE_LIMIT_S,
    MAX_WRAPPED_BYTES,
    OCTETS,
    key_prefix,
    marker_name,
)
from erasestream.sinks.keys.keyring import MAX_KEYS, Keyring, VersionState, split_keys


class Outcome(StrEnum):
    """Result of one grant's turn."""

    MOVED = "moved"
    """By this process, or by another one meanwhile."""
    ERASED = "erased"
    """It is marked as erased: the eraser deletes its keys."""
    CONFLICT = "conflict"
    """The newest version has another key of it: another version is needed."""
    LATER = "later"
    """The master key has a newer version since."""
    DISABLED = "disabled"
    """A person disabled a version under which it has a key: nothing of it can be moved."""


class GrantKeys(NamedTuple):
    """A grant, and the versions under which the vault has keys of it."""

    grant: GrantId
    versions: tuple[str, ...]


class _VersionDisabled(Exception):
    """A version exists, and unwraps nothing until a person enables it."""


class KeyRewrapper:
    """Rewraps keys of grants.  Thread-safe."""

    def __init__(self, *, store: ObjectStore, keyring: Keyring, clock: Clock) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock

    def outdated(self, old: frozenset[str]) -> Iterator[GrantKeys]:
        """Yield the grants with a key under one of these versions.  Raises `Unavailable`."""
        names = (info.name.removeprefix(KEYS).partition("/") for info in self._store.list(KEYS))
        for grant, group in groupby(names, key=lambda name: name[0]):
            versions = tuple(version for _, _, version in group)
            if is_uuid(grant) and not old.isdisjoint(versions):
                yield GrantKeys(GrantId(grant), versions)

    def rewrap(self, found: GrantKeys, old: frozenset[str], newest: str) -> Outcome:
        """Move a grant's keys from the old versions to the newest.  Idempotent.

        Raises `Unavailable`: repeat it; `SealBroken` if a key does not unwrap.
        """
        try:
            return self._move(found, old, newest)
        except _VersionDisabled:
            return Outcome.DISABLED

    def _move(self, found: GrantKeys, old: frozenset[str], newest: str) -> Outcome:
        asked_s = self._clock()
        if self._is_erased(found.grant):
            return Outcome.ERASED
        moving = [version for version in found.versions if version in old]
        try:
            keys = self._keys(found.grant, moving)
            if newest not in found.versions:
                created = self._create(found.grant, keys, asked_s)
                if created != newest:
                    return Outcome.LATER
            if not set(keys) <= set(self._keys(found.grant, [newest])):
                return Outcome.CONFLICT
        except NotFound:  # moved or erased meanwhile; the next look tells
            return Outcome.MOVED
        if self._is_erased(found.grant):
            return Outcome.ERASED
        for version in moving:
            with suppress(NotFound):
                self._store.delete(key_prefix(found.grant) + version)
        return Outcome.MOVED

    def _is_erased(self, grant: GrantId) -> bool:
        return self._store.exists(marker_name(grant))

    def _keys(self, grant: GrantId, versions: list[str]) -> list[bytes]:
        keys = list[bytes]()
        for version in versions:
            wrapped = self._store.read(key_prefix(grant) + version, MAX_WRAPPED_BYTES)
            keys += self._unwrap(grant, version, wrapped)
        return list(dict.fromkeys(keys))

    def _unwrap(self, grant: GrantId, version: str, wrapped: bytes) -> tuple[bytes, ...]:
        try:
            return split_keys(self._keyring.unwrap(version, wrapped, grant.encode()))
        except SealBroken:
            match self._keyring.state(version):
                case VersionState.ENABLED:
                    raise
                case VersionState.DISABLED:
                    raise _VersionDisabled from None
                case _:  # since another process moved all keys from it
                    raise NotFound from None

    def _create(self, grant: GrantId, keys: list[bytes], asked_s: float) -> str:
        """Create a name; return its version.  The marker was absent at `asked_s` or later."""
        if len(keys) > MAX_KEYS:
            raise SealBroken
        wrapped = self._keyring.wrap(b"".join(keys), grant.encode())
        if self._clock() - asked_s >= CACHE_LIMIT_S:
            detail = "the marker was read too long ago to create a key"
            raise Unavailable(detail, Code.BUCKET_UNAVAILABLE)
        with suppress(AlreadyExists):
            self._store.create(key_prefix(grant) + wrapped.version, wrapped.raw, OCTETS)
        return wrapped.version


Rewrap = Callable[[GrantKeys], Outcome]
"""Moves one grant's keys (`KeyRewrapper.rewrap`, for given versions)."""

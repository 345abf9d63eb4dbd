"""Keyring: the holder of the master key that wraps the keys of grants.

A master key has versions.  New keys are wrapped under the current one; older versions only
unwrap, until the keys they wrapped have been rewrapped and the version is destroyed.  A key
that was wrapped for one context (the grant) does not unwrap for another.

Rules for several processes:

* A version that one of them adds is known to all after `VERSIONS_AGE_S`, and wraps then.
* A destruction is asked for, and later *seen*: in Cloud KMS there is at least a day in between, in
  which it can be undone.
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from erasestream.schemas.errors import InvariantBroken, SealBroken

KEY_BYTES = 32
MAX_KEYS = 16
"""Keys that are wrapped together; a grant has one, and rarely two."""
VERSIONS_AGE_S = 60.0
"""Longest time for which a process uses the versions that it knew before it looks again."""


class Wrapped(NamedTuple):
    """A wrapped key, and the master key version that unwraps it."""

    version: str
    raw: bytes


class VersionState(StrEnum):
    """State of a master key version, as its keyring reports it now."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    """It exists, and unwraps nothing: not ready yet, or disabled by a person."""
    SCHEDULED = "scheduled"
    """It unwraps nothing, and can still be restored."""
    DESTROYED = "destroyed"


class MasterVersion(NamedTuple):
    """A version, whatever its state."""

    name: str
    state: VersionState
    created: datetime | None
    """None if the keyring does not remember it."""


class Keyring(Protocol):
    """Holder of a master key.  Thread-safe.

    Every method raises `Unavailable` if the keyring cannot be reached, and `Refused` if it cannot
    be used at all.
    """

    def versions(self) -> tuple[str, ...]:
        """Return the versions that unwrap, newest first; the first one wraps.

        As they were at most `VERSIONS_AGE_S` ago.
        """

    def wrap(self, key: bytes, context: bytes) -> Wrapped:
        """Wrap keys of 32 bytes, one after the other, under the newest version."""

    def unwrap(self, version: str, wrapped: bytes, context: bytes) -> bytes:
        """Return the keys.

        Raises `SealBroken` for another context, changed bytes, and a version that does not unwrap.
        """

    def history(self) -> tuple[MasterVersion, ...]:
        """Return every version that there ever was, oldest first, as of now."""

    def state(self, version: str) -> VersionState:
        """Return the state, as of now, of a version that `history` has."""

    def rotate(self) -> None:
        """Add a version.  Older versions still unwrap."""

    def destroy(self, version: str) -> None:
        """Ask for the destruction of an older version.  Idempotent.

        Keys that are wrapped under no other are lost.  Raises `Refused` for the newest version.
        """

    def close(self) -> None:
        """Close connections, if there are any."""


def split_keys(keys: bytes) -> tuple[bytes, ...]:
    """Return the keys that were wrapped together.  Raises `SealBroken`."""
    if not keys or len(keys) % KEY_BYTES or len(keys) > MAX_KEYS * KEY_BYTES:
        raise SealBroken
    return tuple(keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES))


def check_keys(keys: bytes) -> None:
    """Raise `InvariantBroken` unless these are keys of 32 bytes, one after the other."""
    try:
        split_keys(keys)
    except SealBroken:
        raise InvariantBroken("a key has another length than 32 bytes") from None

"""Keyring: the holder of the master key that wraps the keys of grants.

A master key has versions.  New keys are wrapped under the current one; older versions only
unwrap, until the keys they wrapped have been rewrapped and the version is destroyed.  A key
that was wrapped for one context (the grant) does not unwrap for another.
"""

from typing import NamedTuple, Protocol

KEY_BYTES = 32


class Wrapped(NamedTuple):
    """A wrapped key, and the master key version that unwraps it."""

    version: str
    raw: bytes


class Keyring(Protocol):
    """Holder of a master key."""

    def versions(self) -> tuple[str, ...]:
        """Return the versions that unwrap, newest first; the first one wraps."""

    def wrap(self, key: bytes, context: bytes) -> Wrapped:
        """Wrap a key of 32 bytes under the newest version.  Raises `Unavailable`."""

    def unwrap(self, version: str, wrapped: bytes, context: bytes) -> bytes:
        """Return the key.  Raises `SealBroken` for another context, version or changed bytes."""

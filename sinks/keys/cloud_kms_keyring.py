"""A keyring whose master key is in Cloud KMS, which never hands it out.

Rules, all of them:

* A version is named by this key's digest and its number, so that the versions of two keys are never
  taken for each other: `kms-<digest>-<number>`.
* Keys are wrapped under a version that is named, never under the *primary* one: a change of that
  takes up to three hours to reach all of Cloud KMS, and versions are destroyed sooner.
* Checksums (CRC32C) go with every request, and every answer's are verified, as Google asks.
* A version is destroyed only when Cloud KMS reports it.  From being scheduled until then it can be
  restored; one that was imported can be imported again, so it never counts as destroyed.
"""

import hashlib
import re
import threading
import time
from typing import Any

from google.cloud import kms_v1

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Code, Refused, SealBroken, Unavailable
from erasestream.sinks.keys.cloud_kms_client import (
    TIMEOUT_S,
    KmsSettings,
    crc32c,
    open_client,
    translated,
    verify_checksums,
)
from erasestream.sinks.keys.keyring import (
    VERSIONS_AGE_S,
    MasterVersion,
    VersionState,
    Wrapped,
    check_keys,
    split_keys,
)

PAGE = 1000
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
STATES = {
    _State.ENABLED: VersionState.ENABLED,
    _State.DESTROYED: VersionState.DESTROYED,
    _State.DESTROY_SCHEDULED: VersionState.SCHEDULED,
    _State.PENDING_EXTERNAL_DESTRUCTION: VersionState.SCHEDULED,
    _State.EXTERNAL_DESTRUCTION_FAILED: VersionState.SCHEDULED,
}
"""All other states: it unwraps nothing now, and may later."""
EMPTY = {_State.IMPORT_FAILED, _State.GENERATION_FAILED}
"""Versions that never had any material."""


class _VersionNames:
    """Names of the versions of one key, here and in Cloud KMS."""

    def __init__(self, key: str) -> None:
        self._key = key
        digest = hashlib.sha256(key.encode()).hexdigest()
        self._prefix = f"kms-{digest[:12]}-"

    def version(self, found: Any) -> MasterVersion:
        """Return a version as Cloud KMS describes it."""
        name = self._prefix + found.name.rpartition("/")[2]
        return MasterVersion(name, _state_of(found), found.create_time)

    def path(self, version: str) -> str:
        """Return the name in Cloud KMS.  Raises `SealBroken` for a version of another key."""
        number = version.removeprefix(self._prefix)
        if number == version or _NUMBER.fullmatch(number) is None:
            raise SealBroken
        return f"{self._key}/cryptoKeyVersions/{number}"


class CloudKmsKeyring:
    """One key of Cloud KMS.  Thread-safe."""

    def __init__(self, settings: KmsSettings, *, clock: Clock = time.monotonic) -> None:
        """Create the client; it does not connect yet.

        Raises `Refused` for settings that cannot work.
        """
        self._key = settings.key
        self._names = _VersionNames(settings.key)
        self._clock = clock
        self._lock = threading.Lock()
        self._known: tuple[str, ...] = ()
        self._outdated = Deadline(0, clock)
        self._client = open_client(settings)

    def versions(self) -> tuple[str, ...]:
        """Return the enabled versions, newest first, as they were at most 60 s ago."""
        with self._lock:
            if not self._outdated.has_passed:
                return self._known
        outdated = Deadline(VERSIONS_AGE_S, self._clock)  # from before the request
        found = [v.name for v in self.history() if v.state is VersionState.ENABLED]
        with self._lock:
            self._known, self._outdated = tuple(reversed(found)), outdated
            return self._known

    def wrap(self, key: bytes, context: bytes) -> Wrapped:
        """Wrap keys under the newest enabled version."""
        check_keys(key)
        newest = next(iter(self.versions()), None)
        if newest is None:
            self._forget_versions()
            raise Unavailable("no version of the key is enabled", Code.KEYRING_UNAVAILABLE)
        name, bound = self._names.path(newest), _bound(newest, context)
        try:
            answer = self._call(
                self._client.encrypt,
                name=name,
                plaintext=key,
                plaintext_crc32c=crc32c(key),
                additional_authenticated_data=bound,
                additional_authenticated_data_crc32c=crc32c(bound),
            )
        except SealBroken as error:
            self._forget_versions()  # it was disabled since they were listed
            raise Unavailable("the version is not enabled", Code.KEYRING_UNAVAILABLE) from error
        verify_checksums(
            answer.name == name,
            answer.verified_plaintext_crc32c,
            answer.verified_additional_authenticated_data_crc32c,
            answer.ciphertext_crc32c == crc32c(answer.ciphertext),
        )
        return Wrapped(newest, answer.ciphertext)

    def unwrap(self, version: str, wrapped: bytes, context: bytes) -> bytes:
        """Return the keys that were wrapped for this context, under this version."""
        self._names.path(version)
        bound = _bound(version, context)
        answer = self._call(
            self._client.decrypt,
            name=self._key,
            ciphertext=wrapped,
            ciphertext_crc32c=crc32c(wrapped),
            additional_authenticated_data=bound,
            additional_authenticated_data_crc32c=crc32c(bound),
        )
        keys: bytes = answer.plaintext
        verify_checksums(answer.plaintext_crc32c == crc32c(keys))
        split_keys(keys)
        return keys

    def history(self) -> tuple[MasterVersion, ...]:
        """Return all versions, those that are destroyed too: Cloud KMS remembers them."""
        with translated():
            found = list(
                self._client.list_crypto_key_versions(
                    {"parent": self._key, "page_size": PAGE}, timeout=TIMEOUT_S, retry=None
                )
            )
        made = (each for each in found if each.state not in EMPTY)
        numbered = sorted(made, key=lambda each: int(each.name.rpartition("/")[2]))
        return tuple(map(self._names.version, numbered))

    def state(self, version: str) -> VersionState:
        """Return the state of one version."""
        found = self._call(self._client.get_crypto_key_version, name=self._names.path(version))
        return self._names.version(found).state

    def rotate(self) -> None:
        """Add a version."""
        self._call(self._client.create_crypto_key_version, parent=self._key)
        self._forget_versions()

    def destroy(self, version: str) -> None:
        """Schedule the destruction of a version, unless it is scheduled or destroyed already."""
        enabled = [each for each in self.history() if each.state is VersionState.ENABLED]
        if not enabled or enabled[-1].name == version:
            raise Refused("only an older version of the master key can be destroyed")
        if self.state(version) not in {VersionState.SCHEDULED, VersionState.DESTROYED}:
            try:
                self._call(self._client.destroy_crypto_key_version, name=self._names.path(version))
            except SealBroken as error:
                raise Unavailable("the version's state", Code.KEYRING_UNAVAILABLE) from error
        self._forget_versions()

    def close(self) -> None:
        """Close the connection.  Idempotent."""
        self._client.transport.close()  # type: ignore[no-untyped-call]

    def _call(self, method: Any, **request: object) -> Any:
        with translated():
            return method(request, timeout=TIMEOUT_S, retry=None)

    def _forget_versions(self) -> None:
        with self._lock:
            self._outdated = Deadline(0, self._clock)


def _state_of(found: Any) -> VersionState:
    state = STATES.get(found.state, VersionState.DISABLED)
    can_return = state is VersionState.DESTROYED and found.reimport_eligible
    return VersionState.SCHEDULED if can_return else state


def _bound(version: str, context: bytes) -> bytes:
    """Return the authenticated data: nothing unwraps under another version's name."""
    return b"erasestream/v1/keyring\0" + version.encode() + b"\0" + context

"""Answers of the key service: which role gets which key, and when.

Rules, all of them:

* A public key goes to the roles that may seal for its purpose, a private key to the one that opens.
* Time is this replica's own.  A private key is refused while its epoch is ahead by more than the
  clock error, a public one until it is published; both are expired once the pair is dead.
* What the vault cannot answer now is unavailable (503): the client asks again, or another replica.
  So is everything while this replica does not believe itself (`self_check.py`), and a key whose
  master key cannot be used.  Without the next epoch's public key, this one's goes out alone.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import NotFound, Refused, SealBroken, Unavailable
from erasestream.sinks.keys.epoch_vault import EpochVault, KeyName
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.purposes import Purpose
from erasestream.topics.keys.answers import (
    NO_PURPOSE,
    STATUS,
    EpochKey,
    KeyHalf,
    KeyRequest,
    NoKey,
    SealingKey,
    SealingKeys,
)


class Answer(NamedTuple):
    """Status and JSON body."""

    status: int
    body: str = "{}"


class KeyAnswers:
    """Answers requests.  Thread-safe."""

    def __init__(
        self,
        *,
        vault: EpochVault,
        times: EpochTimes,
        purposes: Mapping[str, Purpose],
        now: WallClock,
        is_trusted: Callable[[], bool],
    ) -> None:
        """`is_trusted`: whether this replica may answer."""
        self._vault = vault
        self._times = times
        self._purposes = purposes
        self._now = now
        self._is_trusted = is_trusted

    def answer(self, role: str, path: str) -> Answer:
        """Return the answer to a role's request."""
        request = KeyRequest.parse(path)
        purpose = self._purposes.get(request.purpose) if request else None
        if request is None:
            return _no(NoKey.UNKNOWN)
        if purpose is None:
            return Answer(NO_PURPOSE)
        if not self._is_trusted():
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            return self._answer(role, purpose, request)
        except NotFound:
            return _no(NoKey.UNKNOWN)
        except (Unavailable, SealBroken, Refused):
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE)

    def _answer(self, role: str, purpose: Purpose, request: KeyRequest) -> Answer:
        if request.epoch is None:
            return self._offered(role, purpose)
        if request.half is KeyHalf.PUBLIC:
            return self._public(role, purpose, request.epoch)
        return self._private(role, purpose, request.epoch)

    def _offered(self, role: str, purpose: Purpose) -> Answer:
        if role not in purpose.sealers:
            return Answer(HTTPStatus.FORBIDDEN)
        now = self._now()
        this, following = self._times.offered(now)
        keys = [self._sealing_key(purpose, this, now)]
        with suppress(Unavailable, SealBroken, Refused):  # it concerns its own epoch only
            keys.append(self._sealing_key(purpose, following, now))
        offered = SealingKeys(purpose=purpose.name, keys=tuple(keys))
        return Answer(HTTPStatus.OK, offered.model_dump_json())

    def _sealing_key(self, purpose: Purpose, epoch: int, now: datetime) -> SealingKey:
        public = self._vault.find_or_create(KeyName(purpose.name, epoch), now).public
        ends_s = self._times.begins(epoch + 1).timestamp()
        return SealingKey(epoch=epoch, public=public, ends_s=ends_s)

    def _public(self, role: str, purpose: Purpose, epoch: int) -> Answer:
        if role not in purpose.sealers:
            return Answer(HTTPStatus.FORBIDDEN)
        now = self._now()
        if epoch >= self._times.offered(now).stop:
            return _no(NoKey.FUTURE)
        if self._times.is_dead(epoch, now):
            return _no(NoKey.EXPIRED)
        public = self._vault.find_or_create(KeyName(purpose.name, epoch), now).public
        return self._key(purpose, epoch, public)

    def _private(self, role: str, purpose: Purpose, epoch: int) -> Answer:
        if role != purpose.opener:
            return Answer(HTTPStatus.FORBIDDEN)
        now = self._now()
        # Before any date is computed: an epoch far ahead has none.
        ahead = epoch * self._times.length_s - now.timestamp()
        if ahead > self._times.clock_error_s:
            return _no(NoKey.FUTURE)
        if self._times.is_dead(epoch, now):
            return _no(NoKey.EXPIRED)
        private = self._vault.find(KeyName(purpose.name, epoch), now).private
        return self._key(purpose, epoch, private)

    def _key(self, purpose: Purpose, epoch: int, raw: bytes) -> Answer:
        dies_s = self._times.dies(epoch).timestamp()
        key = EpochKey(purpose=purpose.name, epoch=epoch, key=raw, dies_s=dies_s)
        return Answer(HTTPStatus.OK, key.model_dump_json())


def _no(key: NoKey) -> Answer:
    return Answer(STATUS[key], f'{{"answer": "{key}"}}')

"""The API keys of a lane as of the records that were applied.  Pure.

* The last record of a key counts.  One that cannot be read, or that is stored under another id,
  makes the key invalid.
* A key is valid for the digest that its record has, until it expires or is revoked.
* Any record under an account's closing key closes it, for good: none of its keys is valid, old
  or new.
"""

import hmac
from collections.abc import Iterator
from datetime import date, datetime
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import TimedEvent, utc
from erasestream.schemas.events.credentials import CredentialSet, CredentialUsed
from erasestream.schemas.ids import AccountId
from erasestream.topics.credentials.token import Token
from erasestream.topics.kafka.records import Record

_EVENTS: tuple[type[TimedEvent], ...] = (CredentialSet, CredentialUsed)
_USED, _CLOSED = b"/used", b"/closed"


def state_key(key_id: str) -> bytes:
    """Return the key of the record with the state of an API key."""
    return key_id.encode()


def use_key(key_id: str) -> bytes:
    """Return the key of the record with the last use of an API key."""
    return key_id.encode() + _USED


def closing_key(account: AccountId) -> bytes:
    """Return the key of the record that closes an account; no id of a key has a slash."""
    return account.encode() + _CLOSED


class Credential(NamedTuple):
    """An API key: its state, the day of its last use, and when its account was closed."""

    state: CredentialSet
    used_on: date | None
    closed_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Return whether callers may use it."""
        expires_at = self.state.expires_at
        is_ended = self.state.revoked_at or self.closed_at
        return is_ended is None and (expires_at is None or now < expires_at)


class CredentialTable:
    """All keys of a lane, about 1 KB each.  Written by one thread, read by any."""

    def __init__(self) -> None:
        self._states: dict[str, CredentialSet] = {}
        self._used: dict[str, date] = {}
        self._of_accounts: dict[AccountId, dict[str, None]] = {}
        """Ids of keys, so that looking at one account does not take longer the more others have."""
        self._closed: dict[bytes, datetime] = {}

    def apply(self, record: Record) -> None:
        """Apply one record of the topic."""
        key = record.key or b""
        if key.endswith(_CLOSED):
            self._closed.setdefault(key, utc(record.appended_ms))
            return
        key_id = key.removesuffix(_USED).decode(errors="replace")
        try:
            event = one_from_wire(_EVENTS, record.headers, record.value)
        except InvalidEvent:
            event = None
        match event:
            case CredentialSet() if key == state_key(event.key_id):
                self._leave_account(key_id)
                self._states[key_id] = event
                self._of_accounts.setdefault(event.account, {})[key_id] = None
            case CredentialUsed() if key == use_key(event.key_id):
                self._used[key_id] = event.day
            case _ if not key.endswith(_USED):
                self._leave_account(key_id)
                self._states.pop(key_id, None)

    def _leave_account(self, key_id: str) -> None:
        state = self._states.get(key_id)
        if state is not None:
            ids = self._of_accounts[state.account]
            del ids[key_id]
            if not ids:
                del self._of_accounts[state.account]

    def authenticate(self, token: Token, now: datetime) -> Credential | None:
        """Return the key that this text is, if it is valid now."""
        credential = self.get(token.key_id)
        if credential is None or credential.state.kind is not token.kind:
            return None
        is_same = hmac.compare_digest(credential.state.token_sha256, token.sha256)
        return credential if is_same and credential.is_valid(now) else None

    def get(self, key_id: str) -> Credential | None:
        """Return the key with this id, valid or not."""
        state = self._states.get(key_id)
        return None if state is None else self._credential(state)

    def is_closed(self, account: AccountId) -> bool:
        """Return whether the account's owner has closed it."""
        return closing_key(account) in self._closed

    def of_account(self, account: AccountId) -> list[Credential]:
        """Return the keys of an account, oldest first."""
        found = [self.get(key_id) for key_id in list(self._of_accounts.get(account, ()))]
        known = [each for each in found if each is not None]
        return sorted(known, key=lambda each: each.state.created_at)

    def __iter__(self) -> Iterator[Credential]:
        yield from map(self._credential, list(self._states.values()))

    def _credential(self, state: CredentialSet) -> Credential:
        closed_at = self._closed.get(closing_key(state.account))
        return Credential(state, self._used.get(state.key_id), closed_at)

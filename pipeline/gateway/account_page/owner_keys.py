"""Read and change the API keys of an account for its owner, without blocking the event loop.

An account's keys are made one after the other at each gateway, which knows of each before it makes
the next.  So an account has at most `MAX_KEYS` and one more for each other gateway: of the keys
behind the last that fits, a gateway makes one, and then knows of it.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from weakref import WeakValueDictionary

from erasestream.pipeline.gateway.bounded_calls import BoundedCalls
from erasestream.pipeline.gateway.problems import HttpCode, invalid_option, problem, try_later
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.schemas.ids import AccountId
from erasestream.topics.credentials.table import Credential
from erasestream.topics.credentials.token import Token
from erasestream.topics.credentials.view import CredentialView
from erasestream.topics.credentials.writer import CredentialWriter

MAX_KEYS = 50
"""Valid keys of an account."""
MAX_CREATED = 100
"""Keys of an account that are made in 24 hours."""
DAY = timedelta(hours=24)
SHOWN_WITHIN_S = 5.0
"""Longest wait until this gateway has read its own change of a key."""
_POLL_S = 0.05


class OwnerKeys:
    """The keys of one lane's accounts."""

    def __init__(self, view: CredentialView, writer: CredentialWriter, calls: BoundedCalls) -> None:
        self._view = view
        self._writer = writer
        self._calls = calls
        self._creating = WeakValueDictionary[AccountId, asyncio.Lock]()
        self._unread: dict[AccountId, str] = {}
        """The key that an account got last, while this gateway has not read it."""

    def valid(self, account: AccountId, now: datetime) -> list[Credential]:
        """Return the valid keys, newest first."""
        return [each for each in self._view.table.of_account(account) if each.is_valid(now)][::-1]

    async def create(
        self,
        account: AccountId,
        kind: CredentialKind,
        *,
        label: str,
        days: int | None,
        now: datetime,
    ) -> Token:
        """Issue a key.

        Raises `Problem` (invalid_options) if the account cannot have another one now.
        """
        lifetime = None if days is None else timedelta(days=days)
        async with self._creating.setdefault(account, asyncio.Lock()):
            self._check_room(account, now)
            token = await self._calls.run(
                self._writer.create, account, kind, label=label, lifetime=lifetime
            )
            self._unread[account] = token.key_id
            await self._until(lambda: self._has_read_last(account))
        return token

    def _has_read_last(self, account: AccountId) -> bool:
        last = self._unread.get(account)
        if last is not None and self._view.table.get(last) is None:
            return False
        self._unread.pop(account, None)
        return True

    def _check_room(self, account: AccountId, now: datetime) -> None:
        if not self._has_read_last(account):
            raise try_later()
        # Revoked keys count, too: each stays in the memory of all gateways.
        of_account = self._view.table.of_account(account)
        if sum(each.is_valid(now) for each in of_account) >= MAX_KEYS:
            raise invalid_option(f"an account has at most {MAX_KEYS} keys")
        if sum(each.state.created_at > now - DAY for each in of_account) >= MAX_CREATED:
            raise invalid_option(f"at most {MAX_CREATED} keys are made in 24 hours")

    async def revoke(self, account: AccountId, key_id: str) -> None:
        """Revoke a key of the account.  Raises `Problem` (no_such_path) for any other."""
        found = self._view.table.get(key_id)
        if found is None or found.state.account != account:
            raise problem(HTTPStatus.NOT_FOUND, HttpCode.NO_ROUTE)
        await self._calls.run(self._writer.revoke, found)
        await self._until(lambda: self._is_revoked(key_id))

    async def close(self, account: AccountId) -> None:
        """Make every key of the account invalid, for good."""
        await self._calls.run(self._writer.close_account, account)
        await self._until(lambda: self._view.table.is_closed(account))

    def _is_revoked(self, key_id: str) -> bool:
        found = self._view.table.get(key_id)
        return found is not None and found.state.revoked_at is not None

    async def _until(self, is_read: Callable[[], bool]) -> None:
        """Wait until this gateway knows of its own change, so that its next page shows it."""
        deadline = Deadline(SHOWN_WITHIN_S, time.monotonic)  # written all the same
        while not deadline.has_passed:
            if is_read():
                return
            await asyncio.sleep(_POLL_S)

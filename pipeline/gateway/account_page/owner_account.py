"""Read and change an account for its owner, without blocking the event loop.

Decisions, history and erasures are read up to the end of their topics with each call, so that two
gateways, or two open pages, never disagree about what was acknowledged.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from threading import Lock
from typing import NamedTuple

from erasestream.pipeline.gateway.account_page.notice import CURRENT_NOTICE
from erasestream.pipeline.gateway.account_page.sign_in import Owner
from erasestream.pipeline.gateway.bounded_calls import BoundedCalls
from erasestream.pipeline.gateway.problems import HttpCode, invalid_option, problem
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.consent.account_erasures import AccountErasures, ErasureState
from erasestream.topics.consent.reader import HistoryEntry
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.credentials.table import Credential
from erasestream.topics.credentials.token import Token
from erasestream.topics.credentials.view import CredentialView
from erasestream.topics.credentials.writer import CredentialWriter

MAX_FOLLOWED = 256
"""Accounts whose erasures are read on from where the last look ended; others from the beginning."""
MAX_KEYS = 50
"""Valid keys of an account."""
MAX_CREATED = 100
"""Keys of an account that are made in 24 hours."""
DAY = timedelta(hours=24)
SHOWN_WITHIN_S = 5.0
"""Longest wait until this gateway has read its own change of a key."""
_POLL_S = 0.05


class AccountState(NamedTuple):
    """The account as of the ends of its topics."""

    on_since: datetime | None
    """When the opt-in was recorded; None while it is off."""
    history: Sequence[HistoryEntry]
    """All decisions, newest first."""
    erasures: Sequence[ErasureState]
    """Erasures of all grants that have ended, newest first."""


class OwnerAccounts:
    """Reads and changes the accounts of one lane."""

    def __init__(
        self,
        *,
        lane: Lane,
        consent: ConsentWriter,
        keys: CredentialView,
        key_writer: CredentialWriter,
        calls: BoundedCalls,
    ) -> None:
        self._lane = lane
        self._consent = consent
        self._keys = keys
        self._key_writer = key_writer
        self._calls = calls
        self._erasures = _Followed(lane, consent)

    async def is_on(self, account: AccountId) -> bool:
        """Return whether the account is opted in."""
        return await self._calls.run(self._consent.reader.active_grant, account) is not None

    async def state(self, account: AccountId) -> AccountState:
        """Return the whole state.  Raises `Unavailable`."""
        return await self._calls.run(self._state, account)

    def _state(self, account: AccountId) -> AccountState:
        reader = self._consent.reader
        active = reader.active_grant(account)
        return AccountState(
            on_since=None if active is None else active.appended_at,
            history=reader.history(account)[::-1],
            erasures=self._erasures.of(account)[::-1],
        )

    async def erasures(self, account: AccountId) -> Sequence[ErasureState]:
        """Return the erasures alone, newest first."""
        return (await self._calls.run(self._erasures.of, account))[::-1]

    async def decision(self, account: AccountId, decision_id: str) -> HistoryEntry:
        """Return a decision of the account.  Raises `Problem` (no_such_path)."""
        for entry in await self._calls.run(self._consent.reader.history, account):
            if entry.id == decision_id:
                return entry
        raise problem(HTTPStatus.NOT_FOUND, HttpCode.NO_ROUTE)

    async def opt_in(self, owner: Owner, notice: str) -> None:
        """Opt in to the text that was shown.  Raises `Problem` if that is not the current one."""
        if notice != CURRENT_NOTICE.reference:
            raise problem(HTTPStatus.CONFLICT, HttpCode.NOTICE_CHANGED)
        await self._calls.run(
            self._consent.grant,
            owner.account,
            actor=_actor(owner),
            channel=Channel.ACCOUNT_PAGE,
            notice=notice,
        )

    async def opt_out(self, owner: Owner) -> None:
        """Opt out; recorded when this returns, and the erasure of all that is kept has begun."""
        await self._calls.run(
            self._consent.revoke,
            owner.account,
            actor=_actor(owner),
            channel=Channel.ACCOUNT_PAGE,
        )

    def keys(self, account: AccountId, now: datetime) -> list[Credential]:
        """Return the valid keys, newest first."""
        return [each for each in self._keys.table.of_account(account) if each.is_valid(now)][::-1]

    def check_room_for_key(self, account: AccountId, now: datetime) -> None:
        """Raise `Problem` (invalid_options) if the account cannot have another key now.

        Revoked keys count, too: each stays in the memory of all gateways.
        """
        of_account = self._keys.table.of_account(account)
        if sum(each.is_valid(now) for each in of_account) >= MAX_KEYS:
            raise invalid_option(f"an account has at most {MAX_KEYS} keys")
        if sum(each.state.created_at > now - DAY for each in of_account) >= MAX_CREATED:
            raise invalid_option(f"at most {MAX_CREATED} keys are made in 24 hours")

    async def create_key(
        self, account: AccountId, kind: CredentialKind, *, label: str, days: int | None
    ) -> Token:
        """Issue a key."""
        lifetime = None if days is None else timedelta(days=days)
        token = await self._calls.run(
            self._key_writer.create, account, kind, label=label, lifetime=lifetime
        )
        await self._until_read(token.key_id, is_revoked=False)
        return token

    async def revoke_key(self, account: AccountId, key_id: str) -> None:
        """Revoke a key of the account.  Raises `Problem` (no_such_path) for any other."""
        found = self._keys.table.get(key_id)
        if found is None or found.state.account != account:
            raise problem(HTTPStatus.NOT_FOUND, HttpCode.NO_ROUTE)
        await self._calls.run(self._key_writer.revoke, found)
        await self._until_read(key_id, is_revoked=True)

    async def close(self, owner: Owner, now: datetime) -> None:
        """Opt out, then revoke every key.

        The key that the owner has signed in with comes last, so that this can be repeated.
        """
        await self.opt_out(owner)
        keys = self.keys(owner.account, now)
        keys.sort(key=lambda each: each.state.key_id == owner.proof)
        for each in keys:
            await self.revoke_key(owner.account, each.state.key_id)

    async def _until_read(self, key_id: str, *, is_revoked: bool) -> None:
        """Wait until this gateway knows of a change, so that its next page shows it."""
        deadline = Deadline(SHOWN_WITHIN_S, time.monotonic)  # written all the same
        while not deadline.has_passed:
            if self._knows(key_id, is_revoked=is_revoked):
                return
            await asyncio.sleep(_POLL_S)

    def _knows(self, key_id: str, *, is_revoked: bool) -> bool:
        found = self._keys.table.get(key_id)
        return found is not None and (found.state.revoked_at is not None) is is_revoked


def _actor(owner: Owner) -> str:
    return f"key:{owner.proof}"


class _Followed:
    """Erasures of the accounts that are looked at, each read on by one thread at a time."""

    def __init__(self, lane: Lane, consent: ConsentWriter) -> None:
        self._lane = lane
        self._consent = consent
        self._lock = Lock()
        self._accounts = OrderedDict[AccountId, tuple[Lock, AccountErasures]]()

    def of(self, account: AccountId) -> list[ErasureState]:
        """Return the erasures of an account, oldest first."""
        with self._lock:
            followed = self._accounts.pop(account, None)
            if followed is None:
                erasures = AccountErasures(self._consent.reader, self._lane, account)
                followed = Lock(), erasures
            self._accounts[account] = followed
            if len(self._accounts) > MAX_FOLLOWED:
                self._accounts.popitem(last=False)
        lock, erasures = followed
        with lock:
            return erasures.now()

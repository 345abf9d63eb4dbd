"""Read and change an account for its owner, without blocking the event loop.

Decisions, history and erasures are read up to the end of their topics with each call, so that two
gateways, or two open pages, never disagree about what was acknowledged.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from http import HTTPStatus
from typing import NamedTuple

from erasestream.pipeline.gateway.account_page.followed_accounts import Followed, FollowedAccounts
from erasestream.pipeline.gateway.account_page.notice import CURRENT_NOTICE
from erasestream.pipeline.gateway.account_page.owner_keys import OwnerKeys
from erasestream.pipeline.gateway.account_page.sign_in import Owner
from erasestream.pipeline.gateway.bounded_calls import BoundedCalls
from erasestream.pipeline.gateway.problems import HttpCode, problem
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.ledger import ReceiptIssued
from erasestream.schemas.ids import AccountId
from erasestream.topics.consent.account_erasures import ErasureState
from erasestream.topics.consent.reader import HistoryEntry
from erasestream.topics.consent.writer import ConsentWriter


class AccountState(NamedTuple):
    """The account as of the ends of its topics."""

    on_since: datetime | None
    """When the opt-in was recorded; None while it is off."""
    history: Sequence[HistoryEntry]
    """All decisions, newest first."""
    erasures: Sequence[ErasureState]
    """Erasures of all grants that have ended, newest first."""
    held: Mapping[date, int]
    """Number of uploads that are kept, by the day of the upload, newest first."""
    receipts: Mapping[tuple[str, str], ReceiptIssued]
    """Receipts from the transparency log, by their kind, and the decision or grant."""


class OwnerAccounts:
    """Reads and changes the accounts of one lane."""

    def __init__(
        self,
        *,
        consent: ConsentWriter,
        followed: FollowedAccounts,
        keys: OwnerKeys,
        calls: BoundedCalls,
    ) -> None:
        self._consent = consent
        self._followed = followed
        self._keys = keys
        self._calls = calls

    async def is_on(self, account: AccountId) -> bool:
        """Return whether the account is opted in."""
        return await self._calls.run(self._consent.reader.active_grant, account) is not None

    async def state(self, account: AccountId) -> AccountState:
        """Return the whole state.  Raises `Unavailable`."""
        return await self._calls.run(self._state, account)

    def _state(self, account: AccountId) -> AccountState:
        reader = self._consent.reader
        active = reader.active_grant(account)
        with self._followed.of(account) as followed:
            return AccountState(
                on_since=None if active is None else active.appended_at,
                history=reader.history(account)[::-1],
                erasures=_erasures(followed),
                held={} if active is None else followed.held.now(active.grant),
                receipts=_receipts(followed),
            )

    async def erasures(self, account: AccountId) -> Sequence[ErasureState]:
        """Return the erasures alone, newest first."""
        return await self._calls.run(self._erasures, account)

    def _erasures(self, account: AccountId) -> Sequence[ErasureState]:
        with self._followed.of(account) as followed:
            return _erasures(followed)

    async def decision(self, account: AccountId, decision_id: str) -> HistoryEntry:
        """Return a decision of the account.  Raises `Problem` (no_such_path)."""
        for entry in await self._calls.run(self._consent.reader.history, account):
            if entry.id == decision_id:
                return entry
        raise problem(HTTPStatus.NOT_FOUND, HttpCode.NO_ROUTE)

    async def receipt(self, account: AccountId, receipt_id: str) -> ReceiptIssued:
        """Return a receipt of the account.  Raises `Problem` (no_such_path)."""
        found = await self._calls.run(self._receipt, account, receipt_id)
        if found is None:
            raise problem(HTTPStatus.NOT_FOUND, HttpCode.NO_ROUTE)
        return found

    def _receipt(self, account: AccountId, receipt_id: str) -> ReceiptIssued | None:
        with self._followed.of(account) as followed:
            return followed.receipts.now().get(receipt_id)

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

    async def close(self, owner: Owner) -> None:
        """Close the account for good: no opt-in counts any more, and no key, old or new.

        Consent first, so that an owner who is interrupted can still sign in, and repeat this.
        """
        await self._calls.run(
            self._consent.close_account,
            owner.account,
            actor=_actor(owner),
            channel=Channel.ACCOUNT_PAGE,
        )
        await self._keys.close(owner.account)


def _receipts(followed: Followed) -> dict[tuple[str, str], ReceiptIssued]:
    return {(each.kind, each.about): each for each in followed.receipts.now().values()}


def _erasures(followed: Followed) -> list[ErasureState]:
    """Return the erasures, newest first, each with its receipt once there is one."""
    receipts = _receipts(followed)
    ids = {about: each.id for (kind, about), each in receipts.items() if kind == "erasure"}
    newest_first = followed.erasures.now()[::-1]
    return [each._replace(receipt=ids.get(each.grant)) for each in newest_first]


def _actor(owner: Owner) -> str:
    return f"key:{owner.proof}"

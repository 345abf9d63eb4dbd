"""Revocations by operators, as in `revocations.L`: they end grants and can never make one.

Operators write there and nowhere else.  Rules:

* Every record under an account's key revokes, whatever it holds, and also if it is unreadable.
* It ends every grant of the account that was appended before it.  Two brokers' clocks stamp the
  grant and the revocation, so that a grant within `MAX_CLOCK_SKEW` after it does not count either;
  later ones do.
* The topic is never compacted: no later record takes a revocation back.
"""

from datetime import datetime

from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.ids import AccountId, Lane, is_account
from erasestream.topics.catalog.topic_names import revocations_of
from erasestream.topics.consent.ledger_place import Place
from erasestream.topics.kafka.records import Partition, Record


class Revocations:
    """When each account of a lane was last revoked by an operator.  Pure."""

    def __init__(self) -> None:
        self._last_ms: dict[bytes, int] = {}

    def apply(self, record: Record) -> None:
        """Apply one record of `revocations.L`."""
        key = record.key or b""
        if is_account(key.decode(errors="replace")):
            self._last_ms[key] = max(record.appended_ms, self._last_ms.get(key, 0))

    def end(self, account: AccountId, appended_at: datetime) -> bool:
        """Return whether a revocation ends a grant that was appended then."""
        last_ms = self._last_ms.get(account.encode())
        return last_ms is not None and appended_at <= utc(last_ms) + MAX_CLOCK_SKEW


def ends_until_ms(revoked_at: datetime) -> int:
    """Return until when a grant was appended that a revocation ends, in ms since 1970."""
    return round((revoked_at + MAX_CLOCK_SKEW).timestamp() * 1000)


def revocation_place(lane: Lane, account: AccountId) -> Place:
    """Return the place of operators' revocations of the account."""
    return Place(Partition(revocations_of(lane), 0), account.encode())

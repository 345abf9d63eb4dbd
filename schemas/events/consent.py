"""An owner's decision about keeping, and when it counts.

An account without a decision is not opted in.  The state lies in the compacted topic
`consent.L`, keyed by account, one record per account; every decision also lies in the
ledger, for ever.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import StringConstraints

from erasestream.schemas.events.base import Event
from erasestream.schemas.ids import AccountField, GrantId, Lane, grant_id

GRANT_WINDOW = timedelta(seconds=5)
"""A grant counts only if the broker appended it within this time of its making.

One that timed out at one writer must not come alive after a revocation at another.
"""

MAX_CLOCK_SKEW = timedelta(seconds=2)
"""How far two brokers' clocks may be apart; in doubt the result is ephemeral."""

HEARTBEAT_KEY = b"~heartbeat"
"""Key of the records that keep compaction going; no account can have it."""


class Decision(StrEnum):
    """What the owner decided."""

    GRANTED = "granted"
    REVOKED = "revoked"


class Channel(StrEnum):
    """Where the decision was made."""

    ACCOUNT_PAGE = "account_page"
    LIBRARY = "library"
    OPERATOR = "operator"


class ConsentDecision(Event):
    """One decision of one account.  Its lane is that of the topic it lies in."""

    type: ClassVar[str] = "com.backgrounderase.consent.decided.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"decision", "actor", "channel"})

    account: AccountField
    decision: Decision
    actor: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    channel: Channel

    def grant(self, lane: Lane) -> GrantId:
        """The id of the grant that this decision makes in this lane."""
        return grant_id(lane, self.account, self.id)

    def is_void(self, appended_at: datetime) -> bool:
        """Whether this is a grant that the broker appended too late (or too early) to count."""
        return is_void(self.decision, made_at=self.time, appended_at=appended_at)


def is_void(decision: Decision, *, made_at: datetime, appended_at: datetime) -> bool:
    """Whether this is a grant that the broker appended too late (or too early) to count."""
    return decision is Decision.GRANTED and abs(appended_at - made_at) > GRANT_WINDOW

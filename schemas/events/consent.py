"""Consent decisions: an owner opts an account in or out of retention.

An account without a decision is not opted in.  The compacted topic `consent.L` holds the state,
one record per account, keyed by account; the ledger holds every decision, permanently.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import StringConstraints

from erasestream.schemas.events.base import TimedEvent
from erasestream.schemas.ids import AccountField, GrantId, Lane, grant_id

GRANT_WINDOW = timedelta(seconds=5)
"""A grant counts only if the broker appended it within this time of its creation.

A grant that timed out at one writer must not take effect after a revocation at another.
"""

MAX_CLOCK_SKEW = timedelta(seconds=2)
"""Largest difference between the clocks of two brokers; in doubt the result is ephemeral."""

UNKNOWN_ACTOR = "unknown"
"""Actor of an operator's revocation whose record is unreadable, and revokes all the same."""

HEARTBEAT_KEY = b"~heartbeat"
"""Key of the heartbeat records that trigger compaction; no account can have it."""


class Decision(StrEnum):
    """The owner's decision."""

    GRANTED = "granted"
    REVOKED = "revoked"


class Channel(StrEnum):
    """Channel through which the decision was made."""

    ACCOUNT_PAGE = "account_page"
    LIBRARY = "library"
    OPERATOR = "operator"


NOTICE_PATTERN = r"^[a-z0-9.-]{1,32}/[0-9a-f]{64}$"
NoticeField = Annotated[str, StringConstraints(pattern=NOTICE_PATTERN)]
"""The text that an owner agreed to: its version and its SHA-256, as `version/sha256`."""


class ConsentDecision(TimedEvent):
    """One decision of one account.  Its lane is that of its topic."""

    type: ClassVar[str] = "com.backgrounderase.consent.decided.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"decision", "actor", "channel", "notice"})

    account: AccountField
    decision: Decision
    actor: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    channel: Channel
    notice: NoticeField | None = None

    def grant(self, lane: Lane) -> GrantId:
        """Return the id of the grant that this decision makes in this lane."""
        return grant_id(lane, self.account, self.id)

    def is_void(self, appended_at: datetime) -> bool:
        """Return whether this is a grant that was appended too late (or too early) to count."""
        return is_void(self.decision, made_at=self.time, appended_at=appended_at)


def is_void(decision: Decision, *, made_at: datetime, appended_at: datetime) -> bool:
    """Return whether this is a grant that was appended too late (or too early) to count."""
    return decision is Decision.GRANTED and abs(appended_at - made_at) > GRANT_WINDOW

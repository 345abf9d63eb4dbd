"""Decide which way a result goes: the rule of keeping, and nothing else.  Pure.

Rules, in this order:

1. A failed result is ephemeral, whatever the consent: no photo is retained without its
   cut-out.
2. A cut-out whose upload is older than the lane's backlog limit becomes the failed result
   *expired*, so that nothing is delivered or retained beyond its time.
3. Retained only if the account's last decision is a grant in force, and the upload was
   appended after it by more than the skew that two brokers' clocks can have.
4. Retained only with its original: equal in id and account to the cut-out.

There is no third case, and no default but ephemeral.
"""

from datetime import datetime, timedelta
from enum import Enum, auto

from erasestream.schemas.codec.result_headers import ResultHeaders
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.events.images import Cutout, Upload
from erasestream.schemas.ids import INVALID_ACCOUNT


class Route(Enum):
    """Where a result goes."""

    EPHEMERAL = auto()
    """To the customer, and nowhere else."""
    RETAINED = auto()
    """To the customer, and with its original to the encryption sink."""
    EXPIRED = auto()
    """The customer is told that it came too late."""


def route_of(
    result: ResultHeaders, *, granted_at: datetime | None, now: datetime, backlog_limit: timedelta
) -> Route:
    """The way of a result, before its original was looked for.

    `granted_at`: when the broker appended the grant in force; None if the account's last
    decision is none.
    """
    if not result.is_cutout:
        return Route.EPHEMERAL
    if now - result.uploaded_at > backlog_limit:
        return Route.EXPIRED
    if granted_at is None or result.account == INVALID_ACCOUNT:
        return Route.EPHEMERAL
    if result.uploaded_at - granted_at <= MAX_CLOCK_SKEW:
        return Route.EPHEMERAL
    return Route.RETAINED


def is_original(upload: Upload, cutout: Cutout) -> bool:
    """Whether what lies at the cut-out's place is what it was made from."""
    return (upload.id, upload.account) == (cutout.id, cutout.account)

"""Choose the route of a result: the retention rule, and nothing else.  Pure.

Rules, in this order:

1. A failed result is ephemeral, whatever the consent: no photo is retained without its
   cut-out.
2. A cut-out whose upload is older than the lane's backlog limit becomes the failed result
   *expired*, so that nothing is delivered or retained beyond its time.
3. A cut-out is ephemeral if its upload, or it itself, asks never to be retained, whatever the
   consent; or if it is a zip.
4. A cut-out is retained only if the account's last decision is a grant in force, and the upload
   was appended after it by more than the clocks of two brokers may differ.
5. It is retained only with its original: the upload with the cut-out's id and account.
6. It is retained sealed or not sealed, as its original is; sealed, only with its capsule.

There is no other case, and no default but ephemeral.
"""

from datetime import datetime, timedelta
from enum import Enum, auto

from erasestream.schemas.codec.result_headers import ResultHeaders
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.events.images import Cutout, Upload
from erasestream.schemas.ids import INVALID_ACCOUNT
from erasestream.schemas.sealing.content_type import is_sealed


class Route(Enum):
    """Where a result goes."""

    EPHEMERAL = auto()
    """To the customer only."""
    RETAINED = auto()
    """To the customer, and with its original to the encryption sink."""
    EXPIRED = auto()
    """Nowhere: the customer receives the failed result *expired* instead."""


def choose_route(
    result: ResultHeaders, *, granted_at: datetime | None, now: datetime, backlog_limit: timedelta
) -> Route:
    """Return the route of a result, before its original is read.

    `granted_at`: when the broker appended the grant in force; None if the account's last
    decision is no grant.
    """
    if not result.is_cutout:
        return Route.EPHEMERAL
    if now - result.uploaded_at > backlog_limit:
        return Route.EXPIRED
    if result.never_retain:
        return Route.EPHEMERAL
    if granted_at is None or result.account == INVALID_ACCOUNT:
        return Route.EPHEMERAL
    if result.uploaded_at - granted_at <= MAX_CLOCK_SKEW:
        return Route.EPHEMERAL
    return Route.RETAINED


def is_original(upload: Upload, cutout: Cutout) -> bool:
    """Return whether the upload at the cut-out's position is its original."""
    return (upload.id, upload.account) == (cutout.id, cutout.account)


def is_retainable(upload: Upload) -> bool:
    """Return whether an upload, as it was read again, does not forbid that it is retained."""
    return upload.is_retainable


def is_sealed_alike(upload: Upload, cutout: Cutout) -> bool:
    """Return whether both are sealed, and the sink gets their keys; or neither is."""
    return (
        is_sealed(upload.content_type)
        == is_sealed(cutout.content_type)
        == (cutout.capsule is not None)
    )

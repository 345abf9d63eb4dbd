"""The scenario: three accounts in two lanes, of which one has opted in.

An account is identified by lane and account id, so the same id in another lane is another
account: one has opted in, its namesake has not.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from erasestream.pipeline.demo.photos import Photo
from erasestream.schemas.ids import AccountId, Lane
from erasestream.schemas.options import OutputFormat

SHOP = Lane("shop")
BULK = Lane("bulk")
LANES = (SHOP, BULK)

NAMESAKE_PHOTOS = 2
"""Number of photos that are sent through the bulk lane as well."""


class Sender(NamedTuple):
    """An account, and how the report names it; `label` is part of file names."""

    label: str
    lane: Lane
    account: AccountId
    title: str
    output_format: OutputFormat = OutputFormat.PNG


OPTED_IN = Sender("opted-in", SHOP, AccountId("acct-kiosk-4711"), "The account that opted in")
NOT_OPTED_IN = Sender(
    "not-opted-in", SHOP, AccountId("acct-atelier-0815"), "The account that did not opt in"
)
NAMESAKE = Sender(
    "namesake",
    BULK,
    OPTED_IN.account,
    "The same id in another lane: another account",
    OutputFormat.WEBP,
)
SENDERS = (OPTED_IN, NOT_OPTED_IN, NAMESAKE)


class Order(NamedTuple):
    """One upload to be made; its result carries the same `reference`."""

    reference: str
    sender: Sender
    photo: Photo


def orders(photos: Sequence[Photo]) -> Iterator[Order]:
    """Yield every photo for both accounts of the shop, and the first few for the bulk lane."""
    number = 0
    for sender in SENDERS:
        for photo in photos[:NAMESAKE_PHOTOS] if sender is NAMESAKE else photos:
            number += 1
            yield Order(f"listing-of-demo-{number:04}", sender, photo)

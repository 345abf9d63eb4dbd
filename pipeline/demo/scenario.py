"""Who sends what: three accounts in two lanes, of which one has opted in.

An account is known as lane plus account id, so that the same id in another lane is somebody
else: one opted in, its namesake did not.
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
"""How many photos the bulk lane carries as well."""


class Sender(NamedTuple):
    """An account, and what people call it; `label` stands in names of files."""

    label: str
    lane: Lane
    account: AccountId
    title: str
    output_format: OutputFormat = OutputFormat.PNG


OPTED_IN = Sender("opted-in", SHOP, AccountId("acct-kiosk-4711"), "The account that opted in")
NOT_OPTED_IN = Sender(
    "not-opted-in", SHOP, AccountId("acct-atelier-0815"), "The account that did not"
)
NAMESAKE = Sender(
    "namesake",
    BULK,
    OPTED_IN.account,
    "The same id in another lane: somebody else",
    OutputFormat.WEBP,
)
SENDERS = (OPTED_IN, NOT_OPTED_IN, NAMESAKE)


class Order(NamedTuple):
    """One upload to be made; `reference` comes back with its result."""

    reference: str
    sender: Sender
    photo: Photo


def orders(photos: Sequence[Photo]) -> Iterator[Order]:
    """Every photo for both accounts of the shop, the first few through the bulk lane too."""
    number = 0
    for sender in SENDERS:
        for photo in photos[:NAMESAKE_PHOTOS] if sender is NAMESAKE else photos:
            number += 1
            yield Order(f"listing-of-demo-{number:04}", sender, photo)

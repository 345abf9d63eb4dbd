"""Sizes of images: from the settings to the topics, and no limits that cannot work together."""

import os
from datetime import UTC, datetime

import pytest

from erasestream.schemas.errors import Code, InvalidImage, Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.catalog.image_sizes import ImageSizes
from erasestream.topics.catalog.topic_names import (
    RECORD_OVERHEAD_BYTES,
    RETAINED,
    consent_of,
    cutouts_of,
    ephemeral_of,
    uploads_of,
)
from erasestream.topics.client.upload_builder import UploadFactory

SHOP = Lane("shop")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def max_message_bytes(catalog: Catalog, topic: str) -> int:
    return int(catalog.config(catalog[topic])["max.message.bytes"])


def test_every_topic_accepts_the_images_of_the_settings_and_no_larger_ones() -> None:
    sizes = ImageSizes(max_upload_bytes=7_000_000, max_cutout_bytes=8_000_000)
    catalog = Catalog.build((LaneSpec(name=SHOP),), sizes=sizes)
    assert max_message_bytes(catalog, uploads_of(SHOP)) == 7_000_000 + RECORD_OVERHEAD_BYTES
    for topic in (cutouts_of(SHOP), ephemeral_of(SHOP), RETAINED):
        assert max_message_bytes(catalog, topic) == 8_000_000 + RECORD_OVERHEAD_BYTES
    default, consents = Catalog.build((LaneSpec(name=SHOP),)), consent_of(SHOP)
    assert max_message_bytes(catalog, consents) == max_message_bytes(default, consents)


def test_a_producer_refuses_what_the_brokers_would() -> None:
    """Without sending it: a refused record makes a producer give up all that wait."""
    factory = UploadFactory(
        lane=SHOP, now=lambda: datetime.now(UTC), random=os.urandom, max_image_bytes=len(PNG)
    )
    factory.build(PNG, account="acct-1")
    with pytest.raises(InvalidImage) as refused:
        factory.build(PNG + b"\0", account="acct-1")
    assert refused.value.code is Code.TOO_LARGE


@pytest.mark.parametrize(
    ("upload", "cutout"),
    [(0, 1), (30_000_001, 64_000_000), (8_000_000, 7_000_000), (1_000_000, 64_000_001)],
)
def test_limits_that_cannot_work_are_refused(upload: int, cutout: int) -> None:
    with pytest.raises(Refused, match="_bytes: from"):
        ImageSizes(max_upload_bytes=upload, max_cutout_bytes=cutout)

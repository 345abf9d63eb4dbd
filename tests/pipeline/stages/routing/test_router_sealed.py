"""The records that the router makes of a sealed result: who gets its keys."""

import base64

import pytest

from erasestream.schemas.events.images import Part
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.topics.catalog.topic_names import ephemeral_of
from erasestream.topics.kafka.records import Outgoing
from tests.pipeline.stages.routing.join_brokers import LANE
from tests.pipeline.stages.routing.router_in_memory import (
    CUTOUT,
    PHOTO,
    RouterHarness,
    retained_in,
)

CAPSULE = bytes(range(252))


@pytest.fixture
def harness() -> RouterHarness:
    return RouterHarness()


def test_a_sealed_result_is_delivered_without_its_capsule(harness: RouterHarness) -> None:
    """Without a grant nothing is left that the sink could open."""
    record = harness.result(
        harness.upload(content_type=SEALED_CONTENT_TYPE),
        0,
        content_type=SEALED_CONTENT_TYPE,
        capsule=CAPSULE,
    )
    (delivered,) = harness.route(record)
    assert ("ce_capsule", base64.urlsafe_b64encode(CAPSULE)) in record.headers
    kept = [each for each in record.headers if each[0] != "ce_capsule"]
    assert delivered == Outgoing(ephemeral_of(LANE), 0, None, kept, record.value)


def test_a_grant_passes_on_values_and_capsule(harness: RouterHarness) -> None:
    """Photo and cut-out as they are sealed, each with the capsule; the customer's copy without."""
    harness.opt_in()
    upload = harness.upload(content_type=SEALED_CONTENT_TYPE)
    record = harness.result(upload, 0, content_type=SEALED_CONTENT_TYPE, capsule=CAPSULE)
    delivered, *others = harness.route(record)
    assert "ce_capsule" not in dict(delivered.headers)
    retained = retained_in(others)
    assert {part: event.data for part, event in retained.items()} == {
        Part.ORIGINAL: PHOTO,
        Part.CUTOUT: CUTOUT,
    }
    sealed = {(event.content_type, event.capsule) for event in retained.values()}
    assert sealed == {(SEALED_CONTENT_TYPE, CAPSULE)}


@pytest.mark.parametrize(
    ("photo", "cutout", "capsule"),
    [
        (SEALED_CONTENT_TYPE, SEALED_CONTENT_TYPE, None),
        (SEALED_CONTENT_TYPE, "image/png", CAPSULE),
        (SEALED_CONTENT_TYPE, "image/png", None),
        ("image/jpeg", SEALED_CONTENT_TYPE, CAPSULE),
        ("image/jpeg", SEALED_CONTENT_TYPE, None),
        ("image/jpeg", "image/png", CAPSULE),
    ],
)
def test_what_is_sealed_in_part_or_without_keys_is_not_retained(
    harness: RouterHarness, photo: str, cutout: str, capsule: bytes | None
) -> None:
    harness.opt_in()
    upload = harness.upload(content_type=photo)
    record = harness.result(upload, 0, content_type=cutout, capsule=capsule)
    (delivered,) = harness.route(record)
    assert delivered.topic == ephemeral_of(LANE)
    assert harness.router.counts["capsule_missing"] == harness.router.counts["ephemeral"] == 1
    assert harness.router.counts["retained"] == 0

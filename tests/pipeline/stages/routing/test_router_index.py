"""Entries of the index, where a gateway serves the lane."""

import hashlib

import pytest

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import Code
from erasestream.schemas.events.image_index import ResultIndexed
from erasestream.schemas.ids import image_key, owner_key
from erasestream.topics.catalog.topic_names import ephemeral_of, index_of
from erasestream.topics.kafka.records import Outgoing
from tests.pipeline.stages.routing.join_brokers import LANE
from tests.pipeline.stages.routing.router_in_memory import ANN, LIMIT, RouterHarness


@pytest.fixture
def harness() -> RouterHarness:
    harness = RouterHarness()
    harness.router._lanes.indexed.add(LANE)
    return harness


def entry_of(delivered: Outgoing) -> ResultIndexed:
    """Return the entry that follows once the record is at offset 17."""
    assert delivered.topic == ephemeral_of(LANE)
    assert delivered.follow_up
    entry = delivered.follow_up(17)
    assert (entry.topic, entry.partition, entry.follow_up) == (index_of(LANE), 0, None)
    return from_wire(ResultIndexed, entry.headers, entry.value)


def test_an_entry_tells_where_a_result_is_and_not_whose(harness: RouterHarness) -> None:
    upload = harness.upload()
    (delivered,) = harness.route(harness.result(upload, 0))
    entry = entry_of(delivered)
    assert (entry.id, entry.owner) == (image_key(LANE, ANN, upload.id), owner_key(LANE, ANN))
    assert (entry.offset, entry.uploaded_at) == (17, upload.time)
    assert (entry.code, entry.retained, entry.reference_sha256) == (None, False, None)
    assert delivered.follow_up
    written = repr(delivered.follow_up(17))
    assert str(upload.id) not in written
    assert str(ANN) not in written


def test_an_entry_tells_failures_and_what_is_retained(harness: RouterHarness) -> None:
    harness.opt_in()
    delivered, *others = harness.route(harness.result(harness.upload(), 0))
    assert len(others) == 2
    assert entry_of(delivered).retained
    assert all(each.follow_up is None for each in others)
    (failed,) = harness.route(harness.result(harness.upload(), 1, failed=True))
    assert (entry_of(failed).code, entry_of(failed).retained) == ("corrupt", False)
    record = harness.result(harness.upload(), 2)
    harness.brokers.now_ms += int(LIMIT.total_seconds() * 1000) + 1
    (expired,) = harness.route(record)
    assert entry_of(expired).code == Code.EXPIRED


def test_a_result_that_is_not_retained_after_all_is_indexed_so(harness: RouterHarness) -> None:
    harness.opt_in()
    upload = harness.upload(never_retain=True)
    (delivered,) = harness.route(harness.result(upload, 0))
    assert not entry_of(delivered).retained


def test_a_reference_is_indexed_by_its_digest(harness: RouterHarness) -> None:
    record = harness.result(harness.upload(), 0)
    headers = [*record.headers, ("ce_reference", b"listing-4711")]
    (delivered,) = harness.route(record._replace(headers=headers))
    assert entry_of(delivered).reference_sha256 == hashlib.sha256(b"listing-4711").hexdigest()

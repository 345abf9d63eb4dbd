"""Record batches that a broker accepts and no client library writes: they harm no other upload."""

from collections import Counter
from collections.abc import Iterator

import pytest

from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.client.upload_producer import Receipt
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import BULK, SHOP, STAGES, PipelineHarness
from tests.flow.raw_client import RecordPosition, upload_record
from tests.flow.topic_reader import event_of
from tests.flow.upload_batch import opt_in
from tests.flow.waiting import eventually
from tests.raw_kafka import NO_ERROR, RawKafka, batch, record, varint

ACCOUNT = "forged-batches"
PARTITION = 1

DELTAS = ([0, 0], [0, 2_000_000_000], [0, -1], [1, 0], [0, 7], [2, 3, 2], [-(2**31), 2**31 - 1])


def image_record(delta: int) -> bytes:
    """Return the record of a valid upload with this offset delta."""
    upload = upload_record(photo(), ACCOUNT)
    return record(delta, upload.value, upload.headers.items())


def null_key_of_length_minus_nine() -> bytes:
    """Return the record of an upload that Kafka stores and librdkafka never delivers."""
    image = photo()
    headers = upload_record(image, ACCOUNT).headers
    fields = b"\0" + varint(0) * 2 + varint(-9) + varint(len(image)) + image
    fields += varint(len(headers))
    for name, text in headers.items():
        assert text is not None
        fields += varint(len(name)) + name.encode() + varint(len(text)) + text
    return varint(len(fields)) + fields


FORGED = [
    *([image_record(delta) for delta in deltas] for deltas in DELTAS),
    [null_key_of_length_minus_nine()],
]


@pytest.fixture(scope="module")
def raw(flow: PipelineHarness) -> Iterator[RawKafka]:
    with RawKafka(flow.stack.cluster, lane_role(SHOP, LaneRole.PRODUCER)) as raw:
        yield raw


def send(raw: RawKafka, records: list[bytes]) -> list[RecordPosition]:
    """Send a batch; return the positions that the broker gave its records."""
    produced = raw.produce(uploads_of(SHOP), PARTITION, batch(records))
    assert produced.error == NO_ERROR
    return [RecordPosition(PARTITION, produced.base_offset + n) for n in range(len(records))]


def results_at(flow: PipelineHarness) -> dict[RecordPosition, list[Cutout | Failure]]:
    """Return the results of the lane by the position of their upload."""
    found: dict[RecordPosition, list[Cutout | Failure]] = {}
    for event in map(event_of, flow.results()):
        at = event.position
        found.setdefault(RecordPosition(at.partition, at.offset), []).append(event)
    return found


def test_every_offset_of_a_forged_batch_has_its_failed_result(
    flow: PipelineHarness, raw: RawKafka
) -> None:
    """One result for each offset; honest uploads around it are delivered, and retained as usual."""
    opt_in(flow, ACCOUNT)
    others: list[Receipt] = []
    honest: list[RecordPosition] = []
    forged: list[RecordPosition] = []
    for records in FORGED:
        honest += send(raw, [image_record(0)])
        forged += send(raw, records)
        honest += send(raw, [image_record(0), image_record(1)])
        others.append(flow.upload("another-account", lane=BULK))
    eventually("all results", lambda: results_at(flow).keys() >= {*honest, *forged})
    results = results_at(flow)
    assert {len(events) for events in results.values()} == {1}
    assert sorted(n for partition, n in results if partition == PARTITION) == list(
        range(forged[-1].offset + 3)
    )
    for position in forged:
        (event,) = results[position]
        assert isinstance(event, Failure)
        assert event.code == Code.MALFORMED_BATCH
    ids = [event.id for position in honest for event in results[position]]
    assert all(isinstance(results[position][0], Cutout) for position in honest)
    for receipt in others:
        flow.cutout(receipt.upload_id, BULK)
    retained = Counter(flow.in_retained())
    assert {retained[upload] for upload in ids} == {2}
    assert {retained[event.id] for position in forged for event in results[position]} == {0}
    assert all(flow.stack.stage(name).process_id for name in STAGES)

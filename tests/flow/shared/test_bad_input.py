"""Bad records from a foreign client: one failed result with a code each, and no other effect.

Every bad record is followed by a good one in the same partition.  Both belong to an account
that opted in, unless the account itself is invalid.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from confluent_kafka import KafkaError

from erasestream.schemas.codec.cloudevents import MAX_HEADER_BYTES, to_wire
from erasestream.schemas.errors import SENTENCES, Code
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel, ConsentDecision, Decision
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Cutout, Failure
from erasestream.schemas.ids import INVALID_ACCOUNT, new_upload_id
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import (
    MAX_UPLOAD_RECORD_BYTES,
    RETAINED,
    consent_of,
    uploads_of,
)
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.kafka.partitioner import partition_of
from tests.flow.pictures import loud_noise, noise, photo, strip
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.flow.raw_client import RawClient, RawRecord, RecordPosition, upload_record
from tests.flow.topic_reader import event_of, ids_in
from tests.flow.upload_batch import opt_in
from tests.flow.waiting import eventually

ACCOUNT = "bad-input"
PRODUCER = lane_role(SHOP, LaneRole.PRODUCER)
PARTITION = 1


def good() -> RawRecord:
    """Build a valid upload of the account."""
    return upload_record(photo(), ACCOUNT)


class Case(NamedTuple):
    """A bad record, and the expected failure."""

    record: Callable[[], RawRecord]
    code: Code
    account: str = ACCOUNT


CASES = {
    "not an image": Case(lambda: good().with_value(b"hello " * 50), Code.UNSUPPORTED_FORMAT),
    "a GIF": Case(lambda: good().with_value(b"GIF89a" + bytes(50)), Code.UNSUPPORTED_FORMAT),
    "empty": Case(lambda: good().with_value(b""), Code.EMPTY),
    "no value": Case(lambda: good().with_value(None), Code.EMPTY),
    "truncated": Case(lambda: upload_record(noise()[:-2000], ACCOUNT), Code.TRUNCATED),
    "damaged": Case(lambda: upload_record(_damaged(noise()), ACCOUNT), Code.CORRUPT),
    "above 30 MB": Case(
        lambda: good().with_value(photo() + bytes(MAX_UPLOAD_BYTES)), Code.TOO_LARGE
    ),
    "no headers": Case(lambda: RawRecord(photo(), {}), Code.INVALID_EVENT, account=INVALID_ACCOUNT),
    "no type": Case(lambda: good().with_headers(ce_type=None), Code.INVALID_EVENT),
    "no id": Case(lambda: good().with_headers(ce_id=None), Code.INVALID_EVENT),
    "a long id": Case(lambda: good().with_headers(ce_id=b"7" * 256), Code.INVALID_EVENT),
    "an id of two lines": Case(lambda: good().with_headers(ce_id=b"7\n8"), Code.INVALID_EVENT),
    "another event": Case(
        lambda: good().with_headers(ce_type=b"com.backgrounderase.image.cutout.v1"),
        Code.INVALID_EVENT,
    ),
    "unknown version": Case(
        lambda: good().with_headers(ce_type=b"com.backgrounderase.image.uploaded.v2"),
        Code.UNSUPPORTED_VERSION,
    ),
    "unknown CloudEvents": Case(
        lambda: good().with_headers(ce_specversion=b"2.0"), Code.UNSUPPORTED_VERSION
    ),
    "unknown option": Case(
        lambda: good().with_headers(ce_options=b'{"colour":"red"}'), Code.INVALID_OPTIONS
    ),
    "unknown format": Case(
        lambda: good().with_headers(ce_options=b'{"format":"bmp"}'), Code.INVALID_OPTIONS
    ),
    "options that are not JSON": Case(
        lambda: good().with_headers(ce_options=b"png"), Code.INVALID_OPTIONS
    ),
    "not UTF-8": Case(lambda: good().with_headers(ce_reference=b"\xff\xfe"), Code.INVALID_EVENT),
    "large headers": Case(
        lambda: good().with_headers(ce_more=bytes(MAX_HEADER_BYTES)), Code.INVALID_EVENT
    ),
    "no account": Case(
        lambda: good().with_headers(ce_account=None), Code.INVALID_ACCOUNT, account=INVALID_ACCOUNT
    ),
    "an e-mail address": Case(
        lambda: good().with_headers(ce_account=b"someone@example.org"),
        Code.INVALID_ACCOUNT,
        account=INVALID_ACCOUNT,
    ),
    "the reserved account": Case(
        lambda: good().with_headers(ce_account=INVALID_ACCOUNT.encode()),
        Code.INVALID_ACCOUNT,
        account=INVALID_ACCOUNT,
    ),
    "not encodable": Case(
        lambda: upload_record(strip(17_000), ACCOUNT).with_headers(ce_options=b'{"format":"webp"}'),
        Code.ENCODING_FAILED,
    ),
    "result too large": Case(
        lambda: upload_record(loud_noise(6000, 5000), ACCOUNT), Code.RESULT_TOO_LARGE
    ),
}


def _damaged(png: bytes) -> bytes:
    """Overwrite some of the pixel data, without changing the length."""
    middle = len(png) // 2
    return png[:middle] + bytes(1000) + png[middle + 1000 :]


class Customer:
    """A subscriber of the lane that collects results by the position of their upload."""

    def __init__(self, subscription: ResultSubscription) -> None:
        self._subscription = subscription
        self._results: dict[RecordPosition, list[Cutout | Failure]] = {}

    def result(self, position: RecordPosition) -> Cutout | Failure:
        """Wait for the only result of the upload at this position."""

        def delivered() -> list[Cutout | Failure]:
            delivery = self._subscription.poll(0.2)
            if delivery:
                at = delivery.event.position
                found = self._results.setdefault(RecordPosition(at.partition, at.offset), [])
                found.append(delivery.event)
                delivery.ack()
            return self._results.get(position, [])

        (event,) = eventually("the result", delivered)
        return event


@pytest.fixture(scope="module")
def client(flow: PipelineHarness) -> RawClient:
    """Return a client that sends bad records."""
    return RawClient(flow.stack.cluster, PRODUCER)


@pytest.fixture(scope="module")
def customer(flow: PipelineHarness) -> Iterator[Customer]:
    """Yield a subscriber that reads the results."""
    with ResultSubscription(flow.stack.cluster, SHOP, group="bad-input") as subscription:
        yield Customer(subscription)


@pytest.fixture(scope="module", autouse=True)
def _opted_in(flow: PipelineHarness) -> None:
    """Retain the account's good uploads, so that its bad ones are rejected for being bad."""
    opt_in(flow, ACCOUNT)


def send(client: RawClient, record: RawRecord) -> RecordPosition:
    """Send the record and return its position."""
    position = client.send(uploads_of(SHOP), record, partition=PARTITION)
    assert isinstance(position, RecordPosition), position
    return position


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_record_fails_alone(
    case: Case, flow: PipelineHarness, client: RawClient, customer: Customer
) -> None:
    """One failed result with its code, nothing retained, and the next upload is processed."""
    bad = send(client, case.record())
    fine = send(client, good())
    failure = customer.result(bad)
    assert isinstance(failure, Failure), failure
    assert (failure.code, failure.account) == (case.code, case.account)
    assert failure.sentence.startswith(SENTENCES[case.code])
    assert isinstance(customer.result(fine), Cutout)
    events = [event_of(record) for record in flow.results()]
    positions = [RecordPosition(e.position.partition, e.position.offset) for e in events]
    assert (positions.count(bad), positions.count(fine)) == (1, 1)
    retained = flow.in_retained()
    assert (retained.count(failure.id), retained.count(customer.result(fine).id)) == (0, 2)


@pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd", "snappy"])
def test_compressed_batch_is_processed(
    compression: str, flow: PipelineHarness, customer: Customer
) -> None:
    """The broker decompresses every codec before a stage reads the batch."""
    compressing = RawClient(flow.stack.cluster, PRODUCER, compression=compression)
    squeezable = photo() + bytes(100_000)
    position = send(compressing, good().with_value(squeezable))
    assert isinstance(customer.result(position), Cutout)
    upload = customer.result(position).id
    eventually("upload and cut-out are retained", lambda: flow.in_retained().count(upload) == 2)


def test_compressed_bomb_is_refused_by_the_broker(
    flow: PipelineHarness, client: RawClient, customer: Customer
) -> None:
    """The record exceeds the limit only when decompressed; the next upload is processed."""
    compressing = RawClient(flow.stack.cluster, PRODUCER, compression="gzip")
    bomb = good().with_value(photo() + bytes(60_000_000))
    refusal = compressing.send(uploads_of(SHOP), bomb, partition=PARTITION)
    assert isinstance(refusal, KafkaError)
    assert refusal.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert isinstance(customer.result(send(client, good())), Cutout)


def test_undecodable_header_name(
    flow: PipelineHarness, client: RawClient, customer: Customer
) -> None:
    """The upload has a cut-out but is not retained; the next one is not affected."""
    strange = client.send_with_undecodable_name(
        uploads_of(SHOP), good(), partition=PARTITION, name=b"\xff\xfe"
    )
    fine = send(client, good())
    retained = customer.result(fine).id
    assert isinstance(customer.result(strange), Cutout)
    eventually("the next is retained", lambda: flow.in_retained().count(retained) == 2)
    assert customer.result(strange).id not in flow.in_retained()


def test_record_above_the_limit_is_refused_by_the_broker(
    flow: PipelineHarness, client: RawClient, customer: Customer
) -> None:
    """Nothing is appended, and the next upload is processed."""
    before = send(client, good())
    large = good().with_value(photo() + bytes(MAX_UPLOAD_RECORD_BYTES))
    refusal = client.send(uploads_of(SHOP), large, partition=PARTITION)
    assert isinstance(refusal, KafkaError)
    assert refusal.code() == KafkaError.MSG_SIZE_TOO_LARGE
    fine = send(client, good())
    assert fine.offset == before.offset + 1
    assert isinstance(customer.result(fine), Cutout)


def test_reserved_account_cannot_opt_in(
    flow: PipelineHarness, client: RawClient, customer: Customer
) -> None:
    """Even with a forged grant, failures of uploads without an account are not retained."""
    now = datetime.now(UTC)
    decision = ConsentDecision(
        id=new_upload_id(0, b"of a forger"),
        time=now,
        account=INVALID_ACCOUNT,
        decision=Decision.GRANTED,
        actor="a-stranger",
        channel=Channel.LIBRARY,
    )
    topic, key = consent_of(SHOP), INVALID_ACCOUNT.encode()
    wire = to_wire(decision, source="/a/stranger")
    forger = RawClient(flow.stack.cluster, lane_role(SHOP, LaneRole.ACCOUNT))
    number = partition_of(key, flow.stack.catalog()[topic].partitions)
    record = RawRecord(wire.value, dict(wire.headers))
    assert isinstance(forger.send(topic, record, partition=number, key=key), RecordPosition)

    def is_past_the_skew() -> bool:
        upload = flow.upload(ACCOUNT)
        flow.cutout(upload.upload_id)
        return upload.appended_at - now > 2 * MAX_CLOCK_SKEW

    eventually("uploads are certainly after the grant", is_past_the_skew, poll_s=0.5)
    bad = send(client, good().with_headers(ce_account=None))
    failure = customer.result(bad)
    assert failure.account == INVALID_ACCOUNT
    assert failure.id not in flow.in_retained()


def test_bucket_holds_exactly_the_retained_uploads(flow: PipelineHarness) -> None:
    """After all of the above, the bucket holds both parts of what `retained` holds."""
    flow.wait_until_drained()
    account = ACCOUNT.encode()
    mine = [r for r in flow.records(RETAINED) if dict(r.headers)["ce_account"] == account]
    stored = Counter(name.upload_id for name in flow.stored())
    assert {upload: stored[upload] for upload in ids_in(mine)} == Counter(ids_in(mine))

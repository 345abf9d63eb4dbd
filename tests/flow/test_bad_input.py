"""What a stranger's client may send: one failed result with a code each, and the next is fine.

Every bad record is followed by a good one in the same partition, and both are of an account
that opted in, unless the account is what is bad.
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
from erasestream.topics.catalog.topic_names import RETAINED, consent_of, uploads_of
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.kafka.partitioner import partition_of
from tests.flow.pictures import loud_noise, noise, photo, strip
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.flow.raw_client import RawClient, RawRecord, RecordPosition, upload_record
from tests.flow.topic_reader import event_of, ids_in
from tests.flow.waiting import eventually

ACCOUNT = "bad-input"
PRODUCER = lane_role(SHOP, LaneRole.PRODUCER)
PARTITION = 1


def good() -> RawRecord:
    """An upload as it should be."""
    return upload_record(photo(), ACCOUNT)


class Case(NamedTuple):
    """A bad record, and what becomes of it."""

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
    "above 25 MB": Case(
        lambda: good().with_value(photo() + bytes(MAX_UPLOAD_BYTES)), Code.TOO_LARGE
    ),
    "no headers": Case(lambda: RawRecord(photo(), {}), Code.INVALID_EVENT, account=INVALID_ACCOUNT),
    "no type": Case(lambda: good().with_headers(ce_type=None), Code.INVALID_EVENT),
    "no id": Case(lambda: good().with_headers(ce_id=None), Code.INVALID_EVENT),
    "an id that is none": Case(lambda: good().with_headers(ce_id=b"7"), Code.INVALID_EVENT),
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
    "options that are no JSON": Case(
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
    "can not be encoded": Case(
        lambda: upload_record(strip(17_000), ACCOUNT).with_headers(ce_options=b'{"format":"webp"}'),
        Code.ENCODING_FAILED,
    ),
    "result too large": Case(
        lambda: upload_record(loud_noise(6000, 5000), ACCOUNT), Code.RESULT_TOO_LARGE
    ),
}


def _damaged(png: bytes) -> bytes:
    """The picture with its pixels overwritten, and nothing missing."""
    middle = len(png) // 2
    return png[:middle] + bytes(1000) + png[middle + 1000 :]


class Customer:
    """The subscriber of the lane: every result it was delivered, by the upload's place."""

    def __init__(self, subscription: ResultSubscription) -> None:
        self._subscription = subscription
        self._results: dict[RecordPosition, list[Cutout | Failure]] = {}

    def result(self, place: RecordPosition) -> Cutout | Failure:
        """The one result of the upload at this place."""

        def delivered() -> list[Cutout | Failure]:
            delivery = self._subscription.poll(0.2)
            if delivery:
                at = delivery.event.position
                found = self._results.setdefault(RecordPosition(at.partition, at.offset), [])
                found.append(delivery.event)
                delivery.ack()
            return self._results.get(place, [])

        (event,) = eventually("the result", delivered)
        return event


@pytest.fixture(scope="module")
def stranger(flow: PipelineHarness) -> RawClient:
    """Somebody who sends what they like."""
    return RawClient(flow.stack.cluster, PRODUCER)


@pytest.fixture(scope="module")
def customer(flow: PipelineHarness) -> Iterator[Customer]:
    """Who reads the results."""
    with ResultSubscription(flow.stack.cluster, SHOP, group="bad-input") as subscription:
        yield Customer(subscription)


@pytest.fixture(scope="module", autouse=True)
def _opted_in(flow: PipelineHarness) -> None:
    """The account's good uploads are kept: that its bad ones are not is no accident."""
    flow.grant(ACCOUNT)

    def is_kept() -> bool:
        upload = flow.upload(ACCOUNT).upload_id
        flow.cutout(upload)
        return upload in flow.in_retained()

    eventually("uploads are kept", is_kept, poll_s=0.5)


def send(stranger: RawClient, record: RawRecord) -> RecordPosition:
    """Where the record lies now."""
    place = stranger.send(uploads_of(SHOP), record, partition=PARTITION)
    assert isinstance(place, RecordPosition), place
    return place


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_record_fails_alone(
    case: Case, flow: PipelineHarness, stranger: RawClient, customer: Customer
) -> None:
    """One failed result with its code, no pixels, nothing kept; the next upload is served."""
    bad = send(stranger, case.record())
    fine = send(stranger, good())
    failure = customer.result(bad)
    assert isinstance(failure, Failure), failure
    assert (failure.code, failure.account) == (case.code, case.account)
    assert failure.sentence.startswith(SENTENCES[case.code])
    assert isinstance(customer.result(fine), Cutout)
    events = [event_of(record) for record in flow.results()]
    places = [RecordPosition(event.position.partition, event.position.offset) for event in events]
    assert (places.count(bad), places.count(fine)) == (1, 1)
    kept = flow.in_retained()
    assert (kept.count(failure.id), kept.count(customer.result(fine).id)) == (0, 2)


@pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd", "snappy"])
def test_compressed_batch_is_served(
    compression: str, flow: PipelineHarness, customer: Customer
) -> None:
    """Whatever a client compresses with: the broker has undone it before a stage reads it."""
    compressing = RawClient(flow.stack.cluster, PRODUCER, compression=compression)
    squeezable = photo() + bytes(100_000)
    place = send(compressing, good().with_value(squeezable))
    assert isinstance(customer.result(place), Cutout)
    upload = customer.result(place).id
    eventually("upload and cut-out are kept", lambda: flow.in_retained().count(upload) == 2)


def test_compressed_bomb_never_arrives(
    flow: PipelineHarness, stranger: RawClient, customer: Customer
) -> None:
    """What is above the limit only when unfolded the broker refuses, and goes on."""
    compressing = RawClient(flow.stack.cluster, PRODUCER, compression="gzip")
    bomb = good().with_value(photo() + bytes(60_000_000))
    refusal = compressing.send(uploads_of(SHOP), bomb, partition=PARTITION)
    assert isinstance(refusal, KafkaError)
    assert refusal.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert isinstance(customer.result(send(stranger, good())), Cutout)


def test_header_name_that_is_no_text(
    flow: PipelineHarness, stranger: RawClient, customer: Customer
) -> None:
    """The upload is served, in doubt it is not kept, and the next is as always."""
    strange = stranger.send_with_bare_names(
        uploads_of(SHOP), good(), partition=PARTITION, bare=b"\xff\xfe"
    )
    fine = send(stranger, good())
    kept = customer.result(fine).id
    assert isinstance(customer.result(strange), Cutout)
    eventually("the next is kept", lambda: flow.in_retained().count(kept) == 2)
    assert customer.result(strange).id not in flow.in_retained()


def test_above_the_limit_never_arrives(
    flow: PipelineHarness, stranger: RawClient, customer: Customer
) -> None:
    """What is above the topic's limit the broker refuses, and what comes next is served."""
    before = send(stranger, good())
    refusal = stranger.send(
        uploads_of(SHOP), good().with_value(photo() + bytes(26_000_000)), partition=PARTITION
    )
    assert isinstance(refusal, KafkaError)
    assert refusal.code() == KafkaError.MSG_SIZE_TOO_LARGE
    fine = send(stranger, good())
    assert fine.offset == before.offset + 1
    assert isinstance(customer.result(fine), Cutout)


def test_reserved_account_can_not_opt_in(
    flow: PipelineHarness, stranger: RawClient, customer: Customer
) -> None:
    """Not even a forged decision makes failures of nobody's uploads be kept."""
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

    def grant_counts() -> bool:
        upload = flow.upload(ACCOUNT)
        flow.cutout(upload.upload_id)
        return upload.appended_at - now > 2 * MAX_CLOCK_SKEW

    eventually("uploads come surely after the decision", grant_counts, poll_s=0.5)
    bad = send(stranger, good().with_headers(ce_account=None))
    failure = customer.result(bad)
    assert failure.account == INVALID_ACCOUNT
    assert failure.id not in flow.in_retained()


def test_sink_stores_what_was_good(flow: PipelineHarness) -> None:
    """After all this the bucket holds exactly what `retained` holds, in pairs."""
    flow.wait_until_drained()
    mine = [r for r in flow.records(RETAINED) if dict(r.headers)["ce_account"] == ACCOUNT.encode()]
    stored = Counter(name.upload_id for name in flow.stored())
    assert {upload: stored[upload] for upload in ids_in(mine)} == Counter(ids_in(mine))

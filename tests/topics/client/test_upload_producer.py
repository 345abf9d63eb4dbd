"""The producer, on a real broker with TLS and access rights."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from confluent_kafka import Message

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import Code, InvalidInput, Refused, Unavailable
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Upload
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.client.upload_producer import (
    Receipt,
    SendingLimits,
    UploadProducer,
)
from erasestream.topics.kafka.records import Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.paths import ROOT
from tests.topics.client.uploads import (
    LARGE,
    NARROW,
    PNG,
    TIMEOUT_S,
    try_upload,
    upload_until_acknowledged,
)


def test_the_record_is_the_image_with_its_attributes(
    kafka: KafkaFixture, lane: Lane, record_of: Callable[[str, int, int], Message]
) -> None:
    """At the position of the receipt, and without a key."""
    with UploadProducer(kafka.cluster, lane, sealed=False) as producer:
        receipt = producer.send(
            PNG, account="acct-17", reference="listing 4711 ü", options={"format": "webp"}
        ).result(TIMEOUT_S)
    message = record_of(uploads_of(lane), receipt.partition, receipt.offset)
    record = Record.of(message)
    upload = from_wire(Upload, record.headers, record.value)
    assert upload.data == PNG
    assert (upload.id, upload.account) == (receipt.upload_id, "acct-17")
    assert (upload.reference, upload.options.format) == ("listing 4711 ü", "webp")
    assert record.key is None
    assert ("ce_source", f"/lanes/{lane}/uploads".encode()) in record.headers
    assert record.appended_ms == receipt.appended_at.timestamp() * 1000


def test_the_largest_image_is_accepted(kafka: KafkaFixture, lane: Lane) -> None:
    """30 MB pass the producer and the broker."""
    with UploadProducer(kafka.cluster, lane, sealed=False) as producer:
        image = PNG + bytes(MAX_UPLOAD_BYTES - len(PNG))
        assert producer.send(image, account="a").result(TIMEOUT_S).offset == 0


def test_refused_input_is_not_sent(kafka: KafkaFixture, lane: Lane) -> None:
    """It raises at once; the next image is the first record on the broker."""
    with UploadProducer(kafka.cluster, lane, sealed=False) as producer:
        for image, account in ((b"", "a"), (b"GIF89a", "a"), (PNG, "_invalid")):
            with pytest.raises(InvalidInput):
                producer.send(image, account=account)
        assert producer.send(PNG, account="a").result(TIMEOUT_S).offset == 0


def test_an_idempotency_key_gives_the_same_id_after_a_restart(
    kafka: KafkaFixture, lane: Lane
) -> None:
    receipts = []
    for _ in range(2):
        with UploadProducer(kafka.cluster, lane, sealed=False) as producer:
            sent = producer.send(
                PNG,
                account="a",
                idempotency_key="k",
                idempotency_time=datetime(2026, 1, 1, tzinfo=UTC),
            )
            receipts.append(sent.result(TIMEOUT_S))
    first, second = receipts
    assert first.upload_id == second.upload_id
    assert (first.partition, first.offset) != (second.partition, second.offset)


def test_many_threads_share_one_producer(kafka: KafkaFixture, lane: Lane) -> None:
    """Each of 200 uploads from 8 threads has its own id and position."""
    with (
        UploadProducer(kafka.cluster, lane, sealed=False) as producer,
        ThreadPoolExecutor(8) as threads,
    ):
        sent = threads.map(lambda _: producer.send(PNG, account="a"), range(200))
        receipts = [future.result(TIMEOUT_S) for future in sent]
    assert len({r.upload_id for r in receipts}) == 200
    assert len({(r.partition, r.offset) for r in receipts}) == 200


def test_flush_and_close_wait_for_the_acknowledgements(kafka: KafkaFixture, lane: Lane) -> None:
    with UploadProducer(kafka.cluster, lane, sealed=False) as producer:
        flushed = [producer.send(PNG, account="a") for _ in range(20)]
        producer.flush(TIMEOUT_S)
        assert all(future.done() for future in flushed)
        last = [producer.send(PNG, account="a") for _ in range(20)]
    assert all(future.done() and future.exception() is None for future in last)


def test_a_sent_upload_cannot_be_cancelled(kafka: KafkaFixture, lane: Lane) -> None:
    with UploadProducer(kafka.cluster, lane, sealed=False) as producer:
        sent = producer.send(PNG, account="a")
        assert not sent.cancel()
        assert sent.result(TIMEOUT_S).offset == 0


def test_a_full_queue_blocks_and_then_refuses(kafka: KafkaFixture, lane: Lane) -> None:
    """No accepted upload is lost."""
    with UploadProducer(kafka.cluster, lane, limits=NARROW, sealed=False) as producer:
        producer.send(PNG, account="a").result(TIMEOUT_S)
        with kafka.silence():
            taken = [producer.send(LARGE, account="a") for _ in range(2)]
            with pytest.raises(Unavailable) as caught:
                producer.send(LARGE, account="a")
        assert caught.value.code is Code.QUEUE_FULL
        assert all(future.result(TIMEOUT_S).upload_id for future in taken)
        assert producer.send(LARGE, account="a").result(TIMEOUT_S).upload_id


def test_a_missing_acknowledgement_is_unavailable(kafka: KafkaFixture, lane: Lane) -> None:
    """After the delivery timeout; the producer recovers."""
    limits = SendingLimits(delivery_s=1.5)
    with UploadProducer(kafka.cluster, lane, limits=limits, sealed=False) as producer:
        producer.send(PNG, account="a").result(TIMEOUT_S)
        with kafka.silence():
            late = producer.send(PNG, account="a")
            with pytest.raises(Unavailable) as caught:
                late.result(TIMEOUT_S)
            another = producer.send(PNG, account="a")
            with pytest.raises(Unavailable, match="wait after"):
                producer.flush(0.0)
        another.exception(TIMEOUT_S)  # it may be given up, too
        assert caught.value.code is Code.BROKER_UNAVAILABLE
        assert uploads_of(lane) in caught.value.sentence
        upload_until_acknowledged(producer)


def test_a_revoked_right_is_named_and_restoring_it_suffices(
    kafka: KafkaFixture, lane: Lane
) -> None:
    with UploadProducer(kafka.cluster, lane, sealed=False) as producer:
        assert isinstance(try_upload(producer), Receipt)
        with kafka.without_rights(f"{lane}.producer"):
            eventually(
                "the upload is refused",
                lambda: try_upload(producer, Refused, Unavailable) == Code.NOT_AUTHORIZED,
            )
        upload_until_acknowledged(producer, Refused, Unavailable)


def test_a_closed_producer_is_refused(kafka: KafkaFixture, lane: Lane) -> None:
    """Closing again is not."""
    producer = UploadProducer(kafka.cluster, lane, sealed=False)
    producer.close()
    producer.close()
    for use in (lambda: producer.send(PNG, account="a"), producer.flush):
        with pytest.raises(Refused) as caught:
            use()
        assert caught.value.code is Code.CLOSED


def test_a_producer_cannot_be_used_after_a_fork(kafka: KafkaFixture, lane: Lane) -> None:
    """In the child it raises, and the child ends; in the parent it goes on."""
    script = f"""
import os, sys
from pathlib import Path
from erasestream.schemas.errors import Refused
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.client.upload_producer import UploadProducer

cluster = Cluster(bootstrap_servers=({kafka.broker.bootstrap!r},),
                  identities=Path({str(kafka.identities)!r}))
producer = UploadProducer(cluster, {lane!r}, sealed=False)
child = os.fork()
if child == 0:
    for use in (lambda: producer.send({PNG!r}, account="a"), producer.flush, producer.close):
        try:
            use()
        except Refused as error:
            print(error.code, flush=True)
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print(producer.send({PNG!r}, account="a").result(30).offset)
producer.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=ROOT,
    )
    assert done.stdout.split() == ["used_after_fork"] * 3 + ["0", "0"], done.stderr


def test_an_unclosed_producer_does_not_block_the_exit(kafka: KafkaFixture, lane: Lane) -> None:
    script = f"""
from pathlib import Path
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.client.upload_producer import UploadProducer
producer = UploadProducer(Cluster(bootstrap_servers=({kafka.broker.bootstrap!r},),
                          identities=Path({str(kafka.identities)!r})), {lane!r}, sealed=False)
producer.send({PNG!r}, account="a").result(30)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr

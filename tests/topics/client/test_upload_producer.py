"""The producers, against a real broker with TLS and access rights."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Message

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import Code, InvalidInput, Refused, Unavailable
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Upload
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import MAX_UPLOAD_RECORD_BYTES, uploads_of
from erasestream.topics.client.upload_producer import (
    AsyncUploadProducer,
    Receipt,
    SendingLimits,
    UploadProducer,
)
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.records import Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.paths import ROOT

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
LARGE = PNG + bytes(10_000_000)
TIMEOUT_S = 30.0
QUICK = SendingLimits(readiness_s=3.0)
NARROW = SendingLimits(max_queued_bytes=MAX_UPLOAD_RECORD_BYTES, max_wait_s=0.2)


def test_the_image_arrives_as_it_was_sent(
    kafka: KafkaFixture, lane: Lane, record_of: Callable[[str, int, int], Message]
) -> None:
    """Value and attributes lie at the receipt's place; there is no key."""
    with UploadProducer(kafka.cluster, lane) as producer:
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


def test_the_largest_image_is_taken(kafka: KafkaFixture, lane: Lane) -> None:
    """25 MB go through producer and broker."""
    with UploadProducer(kafka.cluster, lane) as producer:
        image = PNG + bytes(MAX_UPLOAD_BYTES - len(PNG))
        assert producer.send(image, account="a").result(TIMEOUT_S).offset == 0


def test_what_is_refused_never_travels(kafka: KafkaFixture, lane: Lane) -> None:
    """Bad input raises at once, and the next image is the first on the broker."""
    with UploadProducer(kafka.cluster, lane) as producer:
        for image, account in ((b"", "a"), (b"GIF89a", "a"), (PNG, "_invalid")):
            with pytest.raises(InvalidInput):
                producer.send(image, account=account)
        assert producer.send(PNG, account="a").result(TIMEOUT_S).offset == 0


def test_a_key_gives_the_same_id_in_another_process_life(kafka: KafkaFixture, lane: Lane) -> None:
    """A retry after a restart has the same id and another offset or partition."""
    receipts = []
    for _ in range(2):
        with UploadProducer(kafka.cluster, lane) as producer:
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
    """Each of 200 uploads from 8 threads has an id and a place of its own."""
    with UploadProducer(kafka.cluster, lane) as producer, ThreadPoolExecutor(8) as threads:
        sent = threads.map(lambda _: producer.send(PNG, account="a"), range(200))
        receipts = [future.result(TIMEOUT_S) for future in sent]
    assert len({r.upload_id for r in receipts}) == 200
    assert len({(r.partition, r.offset) for r in receipts}) == 200


def test_leaving_the_block_waits_for_the_acknowledgements(kafka: KafkaFixture, lane: Lane) -> None:
    """Every future is done after the block, and after a flush."""
    with UploadProducer(kafka.cluster, lane) as producer:
        flushed = [producer.send(PNG, account="a") for _ in range(20)]
        producer.flush(TIMEOUT_S)
        assert all(future.done() for future in flushed)
        last = [producer.send(PNG, account="a") for _ in range(20)]
    assert all(future.done() and future.exception() is None for future in last)


def test_what_was_handed_over_can_not_be_cancelled(kafka: KafkaFixture, lane: Lane) -> None:
    """A future's cancel() answers no, since the record is on its way."""
    with UploadProducer(kafka.cluster, lane) as producer:
        sent = producer.send(PNG, account="a")
        assert not sent.cancel()
        assert sent.result(TIMEOUT_S).offset == 0


def test_a_full_queue_makes_senders_wait_and_then_refuses(kafka: KafkaFixture, lane: Lane) -> None:
    """Above the bound a sender waits, then gets queue_full; what was taken is not lost."""
    with UploadProducer(kafka.cluster, lane, limits=NARROW) as producer:
        producer.send(PNG, account="a").result(TIMEOUT_S)
        with kafka.silence():
            taken = [producer.send(LARGE, account="a") for _ in range(2)]
            with pytest.raises(Unavailable) as caught:
                producer.send(LARGE, account="a")
        assert caught.value.code is Code.QUEUE_FULL
        assert all(future.result(TIMEOUT_S).upload_id for future in taken)
        assert producer.send(LARGE, account="a").result(TIMEOUT_S).upload_id


def test_an_acknowledgement_that_does_not_come_is_unavailable(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """After the delivery timeout the future raises `Unavailable`; the producer lives on."""
    limits = SendingLimits(delivery_s=1.5)
    with UploadProducer(kafka.cluster, lane, limits=limits) as producer:
        producer.send(PNG, account="a").result(TIMEOUT_S)
        with kafka.silence():
            late = producer.send(PNG, account="a")
            with pytest.raises(Unavailable) as caught:
                late.result(TIMEOUT_S)
            producer.send(PNG, account="a")
            with pytest.raises(Unavailable, match="wait after"):
                producer.flush(0.0)
        assert caught.value.code is Code.BROKER_UNAVAILABLE
        assert uploads_of(lane) in caught.value.sentence
        _until_sent(producer)


def test_a_right_that_is_taken_is_named_and_given_back_is_enough(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Whoever sends meanwhile is refused, and the producer lives on."""
    with UploadProducer(kafka.cluster, lane) as producer:

        def answer() -> str:
            try:
                producer.send(PNG, account="a").result(TIMEOUT_S)
            except (Refused, Unavailable) as error:
                return error.code
            return "sent"

        assert answer() == "sent"
        with kafka.without_rights(f"{lane}.producer"):
            eventually("it is refused", lambda: answer() == Code.NOT_AUTHORIZED)
        eventually("it is sent", lambda: answer() == "sent")


def _until_sent(producer: UploadProducer) -> Receipt:
    """Send until it is acknowledged, as a caller does that backs off."""
    for _ in range(20):
        try:
            return producer.send(PNG, account="a").result(TIMEOUT_S)
        except Unavailable:
            continue
    raise AssertionError("the producer did not recover")


def test_a_closed_producer_says_so(kafka: KafkaFixture, lane: Lane) -> None:
    """Sending or flushing after close is refused; closing again is not."""
    producer = UploadProducer(kafka.cluster, lane)
    producer.close()
    producer.close()
    for use in (lambda: producer.send(PNG, account="a"), producer.flush):
        with pytest.raises(Refused) as caught:
            use()
        assert caught.value.code is Code.CLOSED


def test_a_producer_does_not_cross_a_fork(kafka: KafkaFixture, lane: Lane) -> None:
    """A child that uses its parent's producer is told so, ends, and the parent goes on."""
    script = f"""
import os, sys
from pathlib import Path
from erasestream.schemas.errors import Refused
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.client.upload_producer import UploadProducer

cluster = Cluster(bootstrap_servers=({kafka.broker.bootstrap!r},),
                  identities=Path({str(kafka.identities)!r}))
producer = UploadProducer(cluster, {lane!r})
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


def test_a_producer_that_is_never_closed_does_not_hold_the_process(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """A script that forgets close() ends, and cleanly."""
    script = f"""
from pathlib import Path
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.client.upload_producer import UploadProducer
producer = UploadProducer(Cluster(bootstrap_servers=({kafka.broker.bootstrap!r},),
                          identities=Path({str(kafka.identities)!r})), {lane!r})
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


def _identities(folder: Path, kafka: KafkaFixture, lane: Lane, *, certificate_of: str) -> Cluster:
    """The cluster, for a producer that shows the certificate of another role."""
    folder.mkdir()
    shutil.copy(kafka.identities / "ca.crt", folder)
    for suffix in ("crt", "key"):
        source = kafka.identities / f"{certificate_of}.{suffix}"
        shutil.copy(source, folder / f"{lane}.producer.{suffix}")
    return Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=folder)


@pytest.mark.parametrize("role", ["consumer", "account"])
def test_a_role_that_may_not_write_is_refused(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path, role: str
) -> None:
    """The constructor names the topic that this certificate may not write to."""
    cluster = _identities(tmp_path / "wrong", kafka, lane, certificate_of=f"{lane}.{role}")
    with pytest.raises(Refused) as caught:
        UploadProducer(cluster, lane)
    assert caught.value.code is Code.NOT_AUTHORIZED
    assert uploads_of(lane) in caught.value.sentence


def test_another_lanes_certificate_is_refused(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    """A service can not upload into another's lane."""
    other = kafka.open_lane()
    cluster = _identities(tmp_path / "wrong", kafka, lane, certificate_of=f"{other}.producer")
    with pytest.raises(Refused) as caught:
        UploadProducer(cluster, lane)
    assert caught.value.code is Code.NOT_AUTHORIZED


def test_a_lane_without_topics_is_refused(kafka: KafkaFixture, lane: Lane, tmp_path: Path) -> None:
    """A lane that was never provisioned is refused with a sentence, not waited for."""
    folder = tmp_path / "identities"
    _identities(folder, kafka, Lane("nowhere"), certificate_of=f"{lane}.producer")
    cluster = Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=folder)
    with pytest.raises(Refused, match="provision"):
        UploadProducer(cluster, Lane("nowhere"))


def test_brokers_of_another_authority_are_refused(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    """A producer that trusts another CA sends nothing, and says that it is the certificate."""
    stranger = CertificateAuthority.create(tmp_path / "authority", now=lambda: datetime.now(UTC))
    stranger.issue_role(f"{lane}.producer", tmp_path)
    cluster = Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=tmp_path)
    with pytest.raises(Refused) as caught:
        UploadProducer(cluster, lane, limits=QUICK)
    assert caught.value.code is Code.CERTIFICATE_REFUSED


def test_a_missing_certificate_is_named(kafka: KafkaFixture, tmp_path: Path) -> None:
    """The file that is missing stands in the sentence."""
    cluster = Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=tmp_path)
    with pytest.raises(Refused, match=r"ca\.crt") as caught:
        UploadProducer(cluster, Lane("shop"))
    assert caught.value.code is Code.MISSING_CERTIFICATE


def test_brokers_that_are_away_are_unavailable(kafka: KafkaFixture, lane: Lane) -> None:
    """The constructor gives up at its deadline."""
    (port,) = free_ports(1)
    cluster = Cluster(bootstrap_servers=(f"127.0.0.1:{port}",), identities=kafka.identities)
    with pytest.raises(Unavailable) as caught:
        UploadProducer(cluster, lane, limits=SendingLimits(readiness_s=1.0))
    assert caught.value.code is Code.BROKER_UNAVAILABLE


def test_a_queue_too_small_for_one_upload_is_refused() -> None:
    """A bound below one upload would wait for ever."""
    with pytest.raises(Refused, match=str(MAX_UPLOAD_RECORD_BYTES)):
        SendingLimits(max_queued_bytes=MAX_UPLOAD_RECORD_BYTES - 1)


async def test_the_async_twin_sends(kafka: KafkaFixture, lane: Lane) -> None:
    """Many tasks send at once; each gets its receipt."""
    async with AsyncUploadProducer(kafka.cluster, lane) as producer:
        receipts = await asyncio.gather(*(producer.send(PNG, account="a") for _ in range(50)))
    assert len({(r.partition, r.offset) for r in receipts}) == 50
    with pytest.raises(Refused) as caught:
        await producer.send(PNG, account="a")
    assert caught.value.code is Code.CLOSED


async def test_the_async_twin_waits_for_room_without_blocking_the_loop(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """While a task waits for room the loop runs; then queue_full; nothing taken is lost."""
    async with AsyncUploadProducer(kafka.cluster, lane, limits=NARROW) as producer:
        await producer.send(PNG, account="a")
        with kafka.silence():
            taken = [asyncio.create_task(producer.send(LARGE, account="a")) for _ in range(2)]
            await asyncio.sleep(0)
            waiting = asyncio.create_task(producer.send(LARGE, account="a"))
            ticks = 0
            while not waiting.done():
                await asyncio.sleep(0.01)
                ticks += 1
            assert ticks > 3
        with pytest.raises(Unavailable) as caught:
            await waiting
        assert caught.value.code is Code.QUEUE_FULL
        assert len(await asyncio.gather(*taken)) == 2


async def test_a_cancelled_task_gives_its_room_back(kafka: KafkaFixture, lane: Lane) -> None:
    """A task that is cancelled while it waits for room takes none from the others."""
    limits = SendingLimits(max_queued_bytes=MAX_UPLOAD_RECORD_BYTES)
    async with AsyncUploadProducer(kafka.cluster, lane, limits=limits) as producer:
        await producer.send(PNG, account="a")
        with kafka.silence():
            taken = [asyncio.create_task(producer.send(LARGE, account="a")) for _ in range(2)]
            await asyncio.sleep(0)
            waiting = asyncio.create_task(producer.send(LARGE, account="a"))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await asyncio.gather(*taken)
        full = PNG + bytes(MAX_UPLOAD_BYTES - len(PNG))
        assert (await producer.send(full, account="a")).upload_id


async def test_the_async_twin_must_be_opened() -> None:
    """Sending before `async with` is refused with a sentence."""
    cluster = Cluster(bootstrap_servers=("127.0.0.1:9",), identities=Path("none"))
    with pytest.raises(Refused, match="async with"):
        await AsyncUploadProducer(cluster, Lane("shop")).send(PNG, account="a")

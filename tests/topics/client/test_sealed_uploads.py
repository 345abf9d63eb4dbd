"""Uploads that the producer seals, and what it does while the key service is unavailable."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import pytest
from confluent_kafka import Message

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import ClientClosed, Code, Refused, Unavailable
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Part, Upload
from erasestream.schemas.ids import UploadId
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import Opened, open_sealed, upload_digest
from erasestream.topics.catalog.purposes import uploads_for
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.upload_producer import Receipt, SendingLimits, UploadProducer
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.leaks import no_leak
from tests.topics.client.lane_keys import WAIT_S, LaneKeys
from tests.topics.client.programs import finish, start
from tests.topics.client.uploads import PNG, QUICK, TIMEOUT_S, upload_until_acknowledged

IMPATIENT = SendingLimits(max_wait_s=1.5)
LARGEST = PNG + bytes(MAX_UPLOAD_BYTES - len(PNG))


class UploadReader(NamedTuple):
    """Reads uploads back from the broker, and opens them as the inference stage does."""

    keys: LaneKeys
    record_of: Callable[[str, int, int], Message]

    def upload(self, receipt: Receipt) -> Upload:
        topic = uploads_of(self.keys.lane)
        message = self.record_of(topic, receipt.partition, receipt.offset)
        return from_wire(Upload, message.headers(), message.value())

    def opened(self, receipt: Receipt, epoch: int) -> Opened:
        upload = self.upload(receipt)
        assert upload.content_type == SEALED_CONTENT_TYPE
        opener = self.keys.opener("inference", uploads_for(self.keys.lane), epoch)
        digest = upload_digest(self.keys.lane, upload.account, upload.id)
        return open_sealed(upload.data, upload=digest, part=Part.ORIGINAL, opener=opener)


@pytest.fixture
def reader(keys: LaneKeys, record_of: Callable[[str, int, int], Message]) -> UploadReader:
    return UploadReader(keys, record_of)


def test_the_record_is_sealed_for_the_inference_stage(keys: LaneKeys, reader: UploadReader) -> None:
    """All else is as without sealing; the largest image fits, and nothing stays open."""
    purpose = uploads_for(keys.lane)
    keys.client(f"{keys.lane}.producer").sealing_key(purpose, timeout_s=WAIT_S)  # connects
    with no_leak(), UploadProducer(keys.cluster, keys.lane, now=keys.clock) as producer:
        sent = producer.send(PNG, account="acct-17", reference="r", options={"format": "webp"})
        largest = producer.send(LARGEST, account="acct-17")
        receipt = sent.result(TIMEOUT_S)
    upload = reader.upload(receipt)
    assert (upload.id, upload.account, upload.reference) == (receipt.upload_id, "acct-17", "r")
    assert upload.options.format == "webp"
    assert PNG[8:] not in upload.data
    assert reader.opened(receipt, keys.epoch) == ("image/png", PNG)
    assert reader.opened(largest.result(), keys.epoch) == ("image/png", LARGEST)


def test_a_producer_outlives_the_key_service_for_an_epoch(
    keys: LaneKeys, reader: UploadReader
) -> None:
    """Then it pushes back, and goes on by itself once the service is available."""
    epoch = keys.epoch
    with UploadProducer(keys.cluster, keys.lane, limits=IMPATIENT, now=keys.clock) as producer:
        keys.stop()
        keys.clock.advance(hours=1)
        later = producer.send(PNG, account="a").result(TIMEOUT_S)
        keys.clock.advance(hours=1)
        with pytest.raises(Unavailable) as caught:
            producer.send(PNG, account="a")
        assert caught.value.code is Code.KEYS_UNAVAILABLE
        keys.start()
        last = upload_until_acknowledged(producer)
    assert reader.opened(later, epoch + 1) == ("image/png", PNG)
    assert reader.opened(last, epoch + 2) == ("image/png", PNG)


def test_the_next_key_is_fetched_before_it_is_needed(keys: LaneKeys) -> None:
    """Without an upload: a producer that was idle outlives the service as long as any other."""
    with UploadProducer(keys.cluster, keys.lane, now=keys.clock) as producer:
        source = producer._sender.encoder._keys
        assert source is not None
        keys.clock.advance(hours=1)
        eventually("the key after the next is known", lambda: len(source._renewal.known()) == 2)
        keys.stop()
        keys.clock.advance(hours=1)
        assert producer.send(PNG, account="a").result(TIMEOUT_S)


def test_without_a_key_a_producer_does_not_open(kafka: KafkaFixture, keys: LaneKeys) -> None:
    """Unavailable within `readiness_s`; refused if the service does not know the lane."""
    with pytest.raises(Refused, match="no purpose"):
        UploadProducer(keys.cluster, kafka.open_lane(), now=keys.clock)
    keys.stop()
    with no_leak(), pytest.raises(Unavailable) as caught:
        UploadProducer(keys.cluster, keys.lane, limits=QUICK, now=keys.clock)
    assert caught.value.code is Code.KEYS_UNAVAILABLE


async def test_a_task_awaits_a_key_without_blocking_the_loop(keys: LaneKeys) -> None:
    """It is refused after `max_wait_s`, and when the producer is closed meanwhile."""
    async with AsyncUploadProducer(
        keys.cluster, keys.lane, limits=IMPATIENT, now=keys.clock
    ) as producer:
        keys.stop()
        keys.clock.advance(hours=2)
        waiting = asyncio.create_task(producer.send(PNG, account="a"))
        ticks = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks > 3
        with pytest.raises(Unavailable) as caught:
            await waiting
        assert caught.value.code is Code.KEYS_UNAVAILABLE
        waiting = asyncio.create_task(producer.send(PNG, account="a"))
        await asyncio.sleep(0)
        await producer.close()
        with pytest.raises(ClientClosed):
            await waiting


async def test_a_large_image_is_sealed_for_asyncio(keys: LaneKeys, reader: UploadReader) -> None:
    async with AsyncUploadProducer(keys.cluster, keys.lane, now=keys.clock) as producer:
        receipts = await asyncio.gather(
            producer.send(LARGEST, account="a"), producer.send(PNG, account="a")
        )
    assert [reader.opened(receipt, keys.epoch).plaintext for receipt in receipts] == [LARGEST, PNG]


def test_images_of_a_lane_that_accepts_that_are_sent_unsealed(
    keys: LaneKeys, reader: UploadReader
) -> None:
    with UploadProducer(keys.cluster, keys.lane, sealed=False) as producer:
        receipt = producer.send(PNG, account="a").result(TIMEOUT_S)
    assert (reader.upload(receipt).content_type, reader.upload(receipt).data) == ("image/png", PNG)


def test_a_sealing_producer_cannot_be_used_after_a_fork(
    kafka: KafkaFixture, keys: LaneKeys, reader: UploadReader
) -> None:
    """In the child, which lacks the thread that fetches keys, it raises; the parent goes on."""
    program = f"""
        from datetime import datetime
        from erasestream.schemas.errors import Refused
        sealed = Cluster(bootstrap_servers=cluster.bootstrap_servers,
                         identities=cluster.identities,
                         key_endpoints={keys.cluster.key_endpoints!r})
        now = datetime.fromisoformat({keys.clock().isoformat()!r})
        producer = UploadProducer(sealed, LANE, now=lambda: now)
        child = os.fork()
        if child == 0:
            for use in (lambda: producer.send(PNG, account="a"), producer.flush, producer.close):
                try:
                    use()
                except Refused as error:
                    print(error.code, flush=True)
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        receipt = producer.send(PNG, account="a").result(60)
        print(receipt.upload_id, receipt.partition, receipt.offset)
        producer.close()
    """
    code, printed, errors = finish(start(kafka, keys.lane, program))
    assert code == 0, errors
    *of_child, upload, partition, offset = printed.split()
    assert of_child == ["used_after_fork"] * 3 + ["0"]
    receipt = Receipt(
        upload_id=UploadId(upload),
        partition=int(partition),
        offset=int(offset),
        appended_at=keys.clock(),
    )
    assert reader.opened(receipt, keys.epoch) == ("image/png", PNG)

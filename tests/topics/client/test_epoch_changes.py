"""Epochs that change while clients are busy: every upload and every result opens, none is lost."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache, partial
from itertools import count

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.events.images import Cutout, Part, Upload
from erasestream.schemas.ids import UploadId
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import Context, Header, open_sealed, seal, upload_digest
from erasestream.schemas.sealing.recipients import EpochOpener, EpochRecipient
from erasestream.topics.catalog.purposes import results_of, uploads_for
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.kafka.records import Record
from tests.flow.topic_reader import TopicReader
from tests.kafka_fixture import PARTITIONS
from tests.topics.client.lane_keys import LaneKeys
from tests.topics.client.results import OFTEN, ResultWriter, cutout, take
from tests.topics.client.uploads import PNG, TIMEOUT_S

OF_AN_EPOCH = 30
"""Results that come before the epoch changes."""
EPOCHS = 3
SENDERS = 3
IN_FLIGHT = 40
"""Uploads whose results have not come yet."""


class OneWorker:
    """Cuts images out as the inference stage does: sealed for the epoch of their upload."""

    def __init__(self, keys: LaneKeys, router: ResultWriter) -> None:
        self._lane = lane = keys.lane
        self._router = router
        self._opener: Callable[[int], EpochOpener] = cache(
            lambda epoch: keys.opener("inference", uploads_for(lane), epoch)
        )
        self._recipient: Callable[[int], EpochRecipient] = cache(
            lambda epoch: keys.recipient(results_of(lane), epoch)
        )
        self.epochs = set[int]()

    def cut_out(self, record: Record) -> None:
        """Write the result of an upload: the image itself."""
        upload = from_wire(Upload, record.headers, record.value)
        digest = upload_digest(self._lane, upload.account, upload.id)
        (block,) = Header.parse(upload.data, digest, Part.ORIGINAL).blocks
        assert block.epoch
        epoch = block.epoch.number
        opener = self._opener(epoch)
        opened = open_sealed(upload.data, upload=digest, part=Part.ORIGINAL, opener=opener)
        context = Context(digest, Part.CUTOUT, "image/png")
        value = seal(opened.plaintext, context=context, recipients=[self._recipient(epoch)])
        its = {"id": upload.id, "account": upload.account, "data": value}
        its["content_type"] = SEALED_CONTENT_TYPE
        self._router.write_many([cutout(1).model_copy(update=its)])
        self.epochs.add(epoch)


class Traffic:
    """Images on their way, from threads that send to the one that receives."""

    def __init__(self, keys: LaneKeys, worker: OneWorker) -> None:
        self.sent: dict[UploadId, bytes] = {}
        self.found: dict[UploadId, bytes] = {}
        self.is_over = False
        self._keys = keys
        self._worker = worker
        self._numbers = count()
        self._room = threading.Semaphore(IN_FLIGHT)

    def send(self, producer: UploadProducer) -> None:
        """Send until it is over."""
        while self._room.acquire() and not self.is_over:
            image = PNG + next(self._numbers).to_bytes(2, "big")
            receipt = producer.send(image, account="acct-17").result(TIMEOUT_S)
            self.sent[receipt.upload_id] = image

    def work(self) -> None:
        """Cut out until it is over, and nothing is left."""
        lane, done = self._keys.lane, 0
        with closing(
            TopicReader(self._keys.kafka.cluster, ADMIN, uploads_of(lane), PARTITIONS)
        ) as uploads:
            while not (self.is_over and done == len(self.sent)):
                for record in uploads.read()[done:]:
                    self._worker.cut_out(record)
                    done += 1

    def receive_until(self, is_enough: Callable[[], bool], results: ResultSubscription) -> None:
        """Take results one by one."""
        while not is_enough():
            (delivery,) = take(results, 1)
            assert isinstance(delivery.event, Cutout)
            self.found[delivery.event.id] = delivery.event.data
            delivery.ack()
            self._room.release()

    def end(self) -> None:
        """Send no more."""
        self.is_over = True
        self._room.release(SENDERS)


def test_epochs_change_under_load_and_nothing_is_lost(keys: LaneKeys, router: ResultWriter) -> None:
    """Twice, while a producer seals in several threads and a subscription opens the results."""
    epochs = range(keys.epoch, keys.epoch + EPOCHS)
    worker = OneWorker(keys, router)
    traffic = Traffic(keys, worker)

    def has_come(epoch: int, number: int) -> bool:
        return epoch in worker.epochs and len(traffic.found) >= number

    with (
        UploadProducer(keys.cluster, keys.lane, now=keys.clock) as producer,
        ResultSubscription(
            keys.cluster, keys.lane, group="test", limits=OFTEN, now=keys.clock
        ) as results,
        ThreadPoolExecutor(SENDERS + 1) as threads,
    ):
        busy = [threads.submit(traffic.send, producer) for _ in range(SENDERS)]
        busy.append(threads.submit(traffic.work))
        try:
            for epoch in epochs:
                enough = len(traffic.found) + OF_AN_EPOCH
                traffic.receive_until(partial(has_come, epoch, enough), results)
                keys.clock.advance(hours=1)
        finally:
            traffic.end()
        for each in busy:
            each.result(TIMEOUT_S)
        traffic.receive_until(lambda: len(traffic.found) == len(traffic.sent), results)
        assert (results.expired, sum(results.skipped.values())) == (0, 0)
    assert {*epochs} <= worker.epochs
    assert traffic.found == traffic.sent

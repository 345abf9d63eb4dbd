"""A worker with the real key service: old epochs, and an epoch change under load."""

import asyncio
from datetime import timedelta

from erasestream.pipeline.stages.inference.worker.epoch_keys import EpochKeys
from erasestream.pipeline.stages.inference.worker.upload_record import UploadRecord
from erasestream.schemas.events.images import Cutout, Part
from erasestream.schemas.sealing.envelope import Header, open_sealed
from erasestream.schemas.sealing.recipients import Epoch, EpochOpener, EpochRecipient
from erasestream.topics.keys.client import KeyClient
from tests.pipeline.stages.inference.worker.sealed_harness import (
    CUTOUT,
    DIGEST,
    Worker,
    record,
    sealed,
)
from tests.pipeline.stages.keys.key_harness import TIMES, KeyHarness

WAIT_S = 20.0


def worker_of(harness: KeyHarness) -> Worker:
    """Return a worker with the rights and the clock of a real one."""
    keys = EpochKeys(harness.client("inference"), TIMES, now=harness.clock)
    return Worker(keys=keys, now=harness.clock)


def upload(harness: KeyHarness, producer: KeyClient) -> UploadRecord:
    """Return an upload that is sealed and appended now."""
    key = producer.sealing_key("inference.shop", timeout_s=WAIT_S)
    recipient = EpochRecipient.of(Epoch("inference.shop", key.epoch), key.public)
    return record(sealed(recipient), appended=harness.clock())


def epoch_of_result(harness: KeyHarness, result: Cutout) -> int:
    """Open a result as the lane's consumer does, and return its epoch."""
    (block,) = Header.parse(result.data, DIGEST, Part.CUTOUT).blocks
    assert block.epoch
    purpose, number = block.epoch.purpose, block.epoch.number
    raw = harness.client("shop.consumer").opening_key(purpose, number, timeout_s=WAIT_S)
    assert isinstance(raw, bytes)
    opener = EpochOpener.of(block.epoch, raw)
    opened = open_sealed(result.data, upload=DIGEST, part=Part.CUTOUT, opener=opener)
    assert opened.plaintext == CUTOUT
    return number


async def test_an_epoch_change_under_load(harness: KeyHarness) -> None:
    """Uploads of both sides at once, on a worker that starts when both wait already."""
    replica = harness.start()
    replica.do_round()
    producer = harness.client("shop.producer")
    epoch = TIMES.number(harness.clock())
    harness.clock.at = TIMES.begins(epoch + 1) - timedelta(seconds=1)
    uploads = [upload(harness, producer) for _ in range(20)]
    harness.clock.advance(seconds=2)
    replica.do_round()
    uploads += [upload(harness, producer) for _ in range(20)]
    worker = worker_of(harness)
    results = await asyncio.gather(*(worker.cutout_of(each) for each in uploads[::-1]))
    found = [epoch_of_result(harness, result) for result in (results[0], results[-1])]
    assert found == [epoch + 1, epoch]
    assert len(worker.seen) == len(uploads)


async def test_a_worker_that_starts_with_only_old_epochs_waiting(harness: KeyHarness) -> None:
    """Results are sealed for the hour of their uploads, whose public keys are offered no more."""
    replica = harness.start()
    replica.do_round()
    waiting = upload(harness, harness.client("shop.producer"))
    epoch = TIMES.number(harness.clock())
    harness.clock.advance(hours=3)
    replica.do_round()
    result = await worker_of(harness).cutout_of(waiting)
    assert epoch_of_result(harness, result) == epoch

"""A builder of results with simulated children, and sealed uploads for it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.isolation.ciphers import ImageCiphers
from erasestream.pipeline.stages.inference.worker.epoch_keys import EpochKeys
from erasestream.pipeline.stages.inference.worker.result_builder import (
    LaneModel,
    Model,
    ResultBuilder,
)
from erasestream.pipeline.stages.inference.worker.upload_record import UploadRecord
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.codec.cloudevents import Wire, from_wire, to_wire
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Failure, Part, Upload
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.options import CutoutOptions
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import Context, seal, upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochOpener, EpochRecipient, Recipient
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.keys.answers import NoKey

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
TIMES = EpochTimes()
EPOCH = TIMES.number(NOW)
LANE = Lane("shop")
ID = UploadId("order 4711")
PHOTO, CUTOUT = b"\x89PNG of no pixels", b"the cut-out"
ACCOUNT = AccountId("acct-17")
DIGEST = upload_digest(LANE, ACCOUNT, ID)
ORIGINAL = Context(DIGEST, Part.ORIGINAL, "image/png")


class Service:
    """One key pair for every purpose; no keys of one past epoch."""

    private = X25519PrivateKey.generate()
    without_keys = EPOCH - 2

    def opening_key(self, purpose: str, epoch: int, *, timeout_s: float) -> bytes | NoKey:
        del purpose, timeout_s
        return NoKey.UNKNOWN if epoch == self.without_keys else self.private.private_bytes_raw()

    def public_key(self, purpose: str, epoch: int, *, timeout_s: float) -> bytes | NoKey:
        del purpose, epoch, timeout_s
        return self.private.public_key().public_bytes_raw()

    def drop_dead(self) -> None:
        """Do nothing: it keeps no key."""

    def recipient(self, purpose: str = "inference.shop", epoch: int = EPOCH) -> EpochRecipient:
        return EpochRecipient(Epoch(purpose, epoch), self.private.public_key())

    def opener(self, purpose: str, epoch: int = EPOCH) -> EpochOpener:
        return EpochOpener(Epoch(purpose, epoch), self.private)


SERVICE = Service()


def sealed(*recipients: Recipient, context: Context = ORIGINAL) -> bytes:
    """Seal the photo, by default for the workers of this epoch."""
    return seal(PHOTO, context=context, recipients=recipients or [SERVICE.recipient()])


@dataclass
class Worker:
    """A builder whose children are simulated: they open and seal with what they are given."""

    must_be_sealed: frozenset[Lane] = frozenset()
    keys: EpochKeys | None = field(
        default_factory=lambda: EpochKeys(SERVICE, TIMES, now=lambda: NOW)
    )
    now: WallClock = lambda: NOW
    seen: list[bytes] = field(default_factory=list)

    async def cut_out(
        self, image: bytes | memoryview, _: CutoutOptions, ciphers: ImageCiphers | None = None
    ) -> CutoutImage:
        self.seen.append(ciphers.photo.decrypt(image) if ciphers else bytes(image))
        data = ciphers.cutout.encrypt(CUTOUT) if ciphers else CUTOUT
        return CutoutImage(data=data, content_type="image/png", steps_ms={}, width=4, height=3)

    def builder(self) -> ResultBuilder:
        return ResultBuilder(
            models={LANE: LaneModel(Model(name="m", sha256="ab" * 32, version="1"), self.cut_out)},
            backlog_limits={LANE: timedelta(hours=4)},
            keys=self.keys,
            must_be_sealed=self.must_be_sealed,
            now=self.now,
        )

    async def build(self, record: UploadRecord) -> Wire:
        """Wait for keys as the look-ahead does, then build."""
        builder = self.builder()
        is_ready: Callable[[], bool] = builder.readiness_of(record)
        async with asyncio.timeout(30):
            while not is_ready():  # noqa: ASYNC110 (the test of the keys waits for changes)
                await asyncio.sleep(0.001)
        return await builder.build(record)

    async def cutout_of(self, record: UploadRecord) -> Cutout:
        wire = await self.build(record)
        return from_wire(Cutout, wire.headers, wire.value)

    async def refusal_of(self, record: UploadRecord) -> str:
        wire = await self.build(record)
        failure = from_wire(Failure, wire.headers, wire.value)
        assert (failure.id, failure.account) == (ID, ACCOUNT)
        assert not self.seen
        return failure.code


def record(
    data: bytes,
    *,
    content_type: str = SEALED_CONTENT_TYPE,
    appended: datetime = NOW,
    **upload: Any,
) -> UploadRecord:
    """Return the record of an upload."""
    event = Upload(
        id=ID,
        account=ACCOUNT,
        reference="shelf 3",
        data=data,
        content_type=content_type,
        **upload,
    )
    wire = to_wire(event, source="/test")
    position = Position(topic_id="bTYs9Br5T5qhZMdsDXX9XA", partition=3, offset=4711)
    return UploadRecord(LANE, position, int(appended.timestamp() * 1000), wire.headers, wire.value)

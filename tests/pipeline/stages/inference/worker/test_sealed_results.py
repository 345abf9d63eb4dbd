"""Results of sealed uploads: sealed for the epoch of the upload, or a code for what is wrong."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
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
from erasestream.schemas.codec.cloudevents import Wire, from_wire, to_wire
from erasestream.schemas.errors import Code
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Failure, Part, Upload
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.schemas.options import CutoutOptions
from erasestream.schemas.sealing.capsule import epoch_of, open_capsule
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import (
    Context,
    Header,
    open_sealed,
    open_with_data_key,
    seal,
)
from erasestream.schemas.sealing.recipients import (
    Epoch,
    EpochOpener,
    EpochRecipient,
    GrantRecipient,
    Recipient,
)
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.keys.answers import NoKey

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
TIMES = EpochTimes()
EPOCH = TIMES.number(NOW)
LANE = Lane("shop")
ID = UploadId("order 4711")
PHOTO, CUTOUT = b"\x89PNG of no pixels", b"the cut-out"
ORIGINAL = Context.of(ID, Part.ORIGINAL, "image/png")


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

    def recipient(self, purpose: str = "inference", epoch: int = EPOCH) -> EpochRecipient:
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
            now=lambda: NOW,
        )

    async def build(self, record: UploadRecord) -> Wire:
        """Wait for keys as the look-ahead does, then build."""
        builder = self.builder()
        is_ready: Callable[[], bool] = builder.readiness_of(record)
        async with asyncio.timeout(30):
            while not is_ready():  # noqa: ASYNC110 (the test of the keys waits for changes)
                await asyncio.sleep(0)
        return await builder.build(record)

    async def cutout_of(self, record: UploadRecord) -> Cutout:
        wire = await self.build(record)
        return from_wire(Cutout, wire.headers, wire.value)

    async def refusal_of(self, record: UploadRecord) -> str:
        wire = await self.build(record)
        failure = from_wire(Failure, wire.headers, wire.value)
        assert (failure.id, failure.account) == (ID, "acct-17")
        assert not self.seen
        return failure.code


def record(data: bytes, *, content_type: str = SEALED_CONTENT_TYPE, **upload: Any) -> UploadRecord:
    """Return the record of an upload that was appended now."""
    event = Upload(
        id=ID,
        account=AccountId("acct-17"),
        reference="shelf 3",
        data=data,
        content_type=content_type,
        **upload,
    )
    wire = to_wire(event, source="/test")
    position = Position(topic_id="bTYs9Br5T5qhZMdsDXX9XA", partition=3, offset=4711)
    return UploadRecord(LANE, position, int(NOW.timestamp() * 1000), wire.headers, wire.value)


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH - 20])
async def test_a_result_is_sealed_for_the_lane_in_the_epoch_of_its_upload(epoch: int) -> None:
    """And for no other recipient."""
    worker = Worker()
    upload = record(sealed(SERVICE.recipient(epoch=epoch)))
    result = await worker.cutout_of(upload)
    assert worker.seen == [PHOTO]
    assert (result.content_type, result.reference) == (SEALED_CONTENT_TYPE, "shelf 3")
    (block,) = Header.parse(result.data, ID, Part.CUTOUT).blocks
    assert block.epoch == Epoch("results.shop", epoch)
    opener = SERVICE.opener("results.shop", epoch)
    opened = open_sealed(result.data, upload_id=ID, part=Part.CUTOUT, opener=opener)
    assert opened == ("image/png", CUTOUT)


async def test_the_capsule_has_the_data_keys_of_both_images() -> None:
    upload = record(sealed())
    result = await Worker().cutout_of(upload)
    assert result.capsule is not None
    assert epoch_of(result.capsule) == Epoch("sink", EPOCH)
    capsule = open_capsule(result.capsule, ID, SERVICE.opener("sink"))
    values = {Part.ORIGINAL: (upload.value, PHOTO), Part.CUTOUT: (result.data, CUTOUT)}
    for part, (value, plaintext) in values.items():
        key = capsule.data_key_of(part, value)
        opened = open_with_data_key(value, upload_id=ID, part=part, data_key=key)
        assert opened.plaintext == plaintext


async def test_every_cutout_has_a_data_key_of_its_own() -> None:
    """Also that of a replay."""
    worker, upload = Worker(), record(sealed())
    one, two = await worker.cutout_of(upload), await worker.cutout_of(upload)
    assert one.data[-16:] != two.data[-16:]


GRANT = GrantRecipient(GrantId("01890a5d-ac96-8f3a-8b2c-0123456789ab"), bytes(32), "name")
OTHER_KEY = EpochRecipient(Epoch("inference", EPOCH), X25519PrivateKey.generate().public_key())
OTHER_UPLOAD = Context.of(UploadId("another"), Part.ORIGINAL, "image/png")
OTHER_PART = Context.of(ID, Part.CUTOUT, "image/png")
BROKEN: dict[str, tuple[bytes, Code]] = {
    "no envelope": (PHOTO, Code.SEAL_BROKEN),
    "a header alone": (sealed()[:-60], Code.SEAL_BROKEN),
    "a changed commitment": (sealed()[:-40] + bytes(40), Code.SEAL_BROKEN),
    "another key": (sealed(OTHER_KEY), Code.SEAL_BROKEN),
    "two epochs": (
        sealed(SERVICE.recipient(), SERVICE.recipient(epoch=EPOCH - 1)),
        Code.SEAL_BROKEN,
    ),
    "sealed for the sink": (sealed(SERVICE.recipient("sink")), Code.WRONG_PURPOSE),
    "sealed for a grant": (sealed(GRANT), Code.WRONG_PURPOSE),
    "another upload": (sealed(context=OTHER_UPLOAD), Code.WRONG_CONTEXT),
    "another part": (sealed(context=OTHER_PART), Code.WRONG_CONTEXT),
    "no keys": (sealed(SERVICE.recipient(epoch=Service.without_keys)), Code.UNKNOWN_EPOCH),
    "dead keys": (sealed(SERVICE.recipient(epoch=EPOCH - 24)), Code.EXPIRED),
    "the first epoch": (sealed(SERVICE.recipient(epoch=0)), Code.EXPIRED),
    "the next epoch": (sealed(SERVICE.recipient(epoch=EPOCH + 1)), Code.FUTURE_EPOCH),
    "the last epoch": (sealed(SERVICE.recipient(epoch=(1 << 64) - 1)), Code.FUTURE_EPOCH),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_seal_is_a_failed_result_with_its_code(name: str) -> None:
    """No child gets the upload."""
    value, code = BROKEN[name]
    assert await Worker().refusal_of(record(value)) == code


async def test_another_recipient_beside_the_workers_changes_nothing() -> None:
    worker = Worker()
    await worker.cutout_of(record(sealed(SERVICE.recipient(), GRANT)))
    assert worker.seen == [PHOTO]


async def test_an_unsealed_upload_is_taken_where_the_lane_accepts_it() -> None:
    """Its result is not sealed."""
    upload = record(PHOTO, content_type="image/png")
    result = await Worker().cutout_of(upload)
    assert (result.content_type, result.data, result.capsule) == ("image/png", CUTOUT, None)
    strict = Worker(must_be_sealed=frozenset([LANE]))
    assert await strict.refusal_of(upload) == Code.NOT_SEALED
    assert await strict.cutout_of(record(sealed()))


async def test_without_a_key_service_a_sealed_upload_is_of_an_unknown_epoch() -> None:
    assert await Worker(keys=None).refusal_of(record(sealed())) == Code.UNKNOWN_EPOCH


async def test_an_expired_upload_needs_no_keys() -> None:
    """It does not wait for a service that is unavailable."""
    upload = record(sealed())._replace(appended_ms=int(NOW.timestamp() * 1000) - 5 * 3_600_000)
    worker = Worker()
    assert worker.builder().readiness_of(upload)()
    assert await worker.refusal_of(upload) == Code.EXPIRED


@pytest.mark.parametrize("spelling", [SEALED_CONTENT_TYPE.upper(), f"{SEALED_CONTENT_TYPE}; a=b"])
async def test_the_content_type_is_read_as_it_is_elsewhere(spelling: str) -> None:
    """An upload waits for its keys by the same rule by which it is opened."""
    upload = record(sealed())
    headers = [
        (name, spelling.encode() if name == "content-type" else value)
        for name, value in upload.headers
    ]
    worker = Worker()
    await worker.cutout_of(upload._replace(headers=headers))
    assert worker.seen == [PHOTO]

"""Results of sealed uploads: sealed for the epoch of the upload, or a code for what is wrong."""

from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.schemas.options import CutoutOptions, OutputFormat
from erasestream.schemas.sealing.capsule import epoch_of, open_capsule
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import (
    Context,
    Header,
    open_sealed,
    open_with_data_key,
    upload_digest,
)
from erasestream.schemas.sealing.recipients import Epoch, EpochRecipient, GrantRecipient
from tests.pipeline.stages.inference.worker.sealed_harness import (
    ACCOUNT,
    CUTOUT,
    DIGEST,
    EPOCH,
    ID,
    LANE,
    NOW,
    PHOTO,
    SERVICE,
    Service,
    Worker,
    record,
    sealed,
)


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH - 20])
async def test_a_result_is_sealed_for_the_lane_in_the_epoch_of_its_upload(epoch: int) -> None:
    """And for no other recipient."""
    worker = Worker()
    upload = record(sealed(SERVICE.recipient(epoch=epoch)))
    result = await worker.cutout_of(upload)
    assert worker.seen == [PHOTO]
    assert (result.content_type, result.reference) == (SEALED_CONTENT_TYPE, "shelf 3")
    (block,) = Header.parse(result.data, DIGEST, Part.CUTOUT).blocks
    assert block.epoch == Epoch("results.shop", epoch)
    opener = SERVICE.opener("results.shop", epoch)
    opened = open_sealed(result.data, upload=DIGEST, part=Part.CUTOUT, opener=opener)
    assert opened == ("image/png", CUTOUT)


async def test_the_capsule_has_the_data_keys_of_both_images() -> None:
    upload = record(sealed())
    result = await Worker().cutout_of(upload)
    assert result.capsule is not None
    assert epoch_of(result.capsule) == Epoch("sink", EPOCH)
    capsule = open_capsule(result.capsule, DIGEST, SERVICE.opener("sink"))
    values = {Part.ORIGINAL: (upload.value, PHOTO), Part.CUTOUT: (result.data, CUTOUT)}
    for part, (value, plaintext) in values.items():
        key = capsule.data_key_of(part, sha256(value).digest())
        opened = open_with_data_key(value, upload=DIGEST, part=part, data_key=key)
        assert opened.plaintext == plaintext


@pytest.mark.parametrize(
    "wishes", [{"never_retain": True}, {"options": CutoutOptions(format=OutputFormat.ZIP)}]
)
async def test_what_is_never_retained_has_no_capsule(wishes: dict[str, Any]) -> None:
    """So that the sink could not open it, whatever a router does."""
    result = await Worker().cutout_of(record(sealed(), **wishes))
    assert (result.capsule, result.never_retain) == (None, True)


async def test_every_cutout_has_a_data_key_of_its_own() -> None:
    """Also that of a replay."""
    worker, upload = Worker(), record(sealed())
    one, two = await worker.cutout_of(upload), await worker.cutout_of(upload)
    assert one.data[-16:] != two.data[-16:]


GRANT = GrantRecipient(GrantId("01890a5d-ac96-8f3a-8b2c-0123456789ab"), bytes(32), "name")
OTHER_KEY = EpochRecipient(Epoch("inference.shop", EPOCH), X25519PrivateKey.generate().public_key())
OTHERS = {
    "another upload": upload_digest(LANE, ACCOUNT, UploadId("another")),
    "another account's": upload_digest(LANE, AccountId("acct-18"), ID),
    "another lane's": upload_digest(Lane("bulk"), ACCOUNT, ID),
}
OTHER_PART = Context(DIGEST, Part.CUTOUT, "image/png")
BROKEN: dict[str, tuple[bytes, Code]] = {
    "no envelope": (PHOTO, Code.SEAL_BROKEN),
    "a header alone": (sealed()[:-60], Code.SEAL_BROKEN),
    "a changed commitment": (sealed()[:-40] + bytes(40), Code.SEAL_BROKEN),
    "another key": (sealed(OTHER_KEY), Code.SEAL_BROKEN),
    "two epochs": (
        sealed(SERVICE.recipient(), SERVICE.recipient(epoch=EPOCH - 1)),
        Code.SEAL_BROKEN,
    ),
    "sealed for another lane's workers": (
        sealed(SERVICE.recipient("inference.bulk")),
        Code.WRONG_PURPOSE,
    ),
    "sealed for the sink": (sealed(SERVICE.recipient("sink")), Code.WRONG_PURPOSE),
    "sealed for a grant": (sealed(GRANT), Code.WRONG_PURPOSE),
    **{
        name: (sealed(context=Context(upload, Part.ORIGINAL, "image/png")), Code.WRONG_CONTEXT)
        for name, upload in OTHERS.items()
    },
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


async def test_a_forged_time_of_append_ends_no_worker() -> None:
    """Outside of all dates: one far ahead is now for all keys, one far behind is expired."""
    upload = record(sealed())
    assert await Worker().cutout_of(upload._replace(appended_ms=1 << 62))
    assert await Worker().refusal_of(upload._replace(appended_ms=-(1 << 62))) == Code.EXPIRED


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

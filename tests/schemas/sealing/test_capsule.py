"""The capsule: opens for its upload, epoch and values, and all other bytes are refused."""

import json
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from erasestream.schemas.errors import InvariantBroken, SealBroken
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.sealing.capsule import (
    CAPSULE_BYTES,
    PURPOSE,
    Capsule,
    epoch_of,
    open_capsule,
    seal_capsule,
)
from erasestream.schemas.sealing.envelope import UploadDigest, upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochOpener, EpochRecipient
from erasestream.topics.catalog.purposes import KEPT
from tests.paths import ROOT

VECTORS = json.loads((ROOT / "schemas/sealing/vectors/esc1.json").read_text())


def digest(upload: str, lane: str = "shop", account: str = "acct-17") -> UploadDigest:
    return upload_digest(Lane(lane), AccountId(account), UploadId(upload))


UPLOAD = digest("one")
OTHERS = [digest("two"), digest("one", account="acct-18"), digest("one", lane="bulk")]
EPOCH = Epoch(PURPOSE, 494_001)
PRIVATE = X25519PrivateKey.generate()
OPENER = EpochOpener(EPOCH, PRIVATE)
PHOTO, CUTOUT = (bytes(32), b"the sealed photo"), (bytes(range(32)), b"the sealed cut-out")


def capsule(
    upload: UploadDigest = UPLOAD, epoch: Epoch = EPOCH, **images: tuple[bytes, bytes]
) -> bytes:
    """Seal a capsule."""
    images = {"photo": PHOTO, "cutout": CUTOUT} | images
    return seal_capsule(upload, epoch, PRIVATE.public_key(), **images)


def both_keys(opened: Capsule, photo: bytes = PHOTO[1], cutout: bytes = CUTOUT[1]) -> list[bytes]:
    """Return the data keys of both values."""
    return [
        opened.data_key_of(part, sha256(value).digest())
        for part, value in ((Part.ORIGINAL, photo), (Part.CUTOUT, cutout))
    ]


@settings(max_examples=30)
@given(st.text(max_size=255), st.integers(0, (1 << 64) - 1), st.binary(), st.binary())
def test_a_capsule_gives_the_keys_of_its_values(
    upload: str, number: int, photo: bytes, cutout: bytes
) -> None:
    epoch = Epoch(PURPOSE, number)
    images = {"photo": (PHOTO[0], photo), "cutout": (CUTOUT[0], cutout)}
    raw = capsule(digest(upload), epoch, **images)
    assert len(raw) == CAPSULE_BYTES
    assert epoch_of(raw) == epoch
    opened = open_capsule(raw, digest(upload), EpochOpener(epoch, PRIVATE))
    assert both_keys(opened, photo, cutout) == [PHOTO[0], CUTOUT[0]]


def test_every_flipped_bit_is_refused() -> None:
    raw = capsule()
    for at in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[at] ^= 1 << bit
            with pytest.raises(SealBroken):
                open_capsule(bytes(changed), UPLOAD, OPENER)


def test_arbitrary_bytes_are_refused() -> None:
    whole = capsule()

    @settings(max_examples=50)
    @given(st.binary(max_size=400))
    def check(raw: bytes) -> None:
        for begin in (0, 4, 17):
            with pytest.raises(SealBroken):
                epoch_of(whole[:begin] + raw[:100])
            with pytest.raises(SealBroken):
                open_capsule((whole[:begin] + raw + bytes(200))[:CAPSULE_BYTES], UPLOAD, OPENER)

    check()


@pytest.mark.parametrize("other", OTHERS, ids=["upload", "account", "lane"])
def test_another_records_capsule_is_refused(other: UploadDigest) -> None:
    with pytest.raises(SealBroken):
        open_capsule(capsule(other), UPLOAD, OPENER)


@pytest.mark.parametrize(
    "opener",
    [
        EpochOpener(Epoch(PURPOSE, EPOCH.number + 1), PRIVATE),
        EpochOpener(Epoch("results.shop", EPOCH.number), PRIVATE),
        EpochOpener(EPOCH, X25519PrivateKey.generate()),
    ],
)
def test_another_key_opens_nothing(opener: EpochOpener) -> None:
    with pytest.raises(SealBroken):
        open_capsule(capsule(), UPLOAD, opener)


def test_the_block_of_a_photo_is_no_capsule() -> None:
    """For the same epoch and key: the info differs."""
    block = EpochRecipient(EPOCH, PRIVATE.public_key()).encrypt(bytes(32), b"context")
    with pytest.raises(SealBroken):
        open_capsule(capsule()[:17] + block.encrypted, UPLOAD, OPENER)


def test_a_data_key_is_given_for_its_own_value_only() -> None:
    opened = open_capsule(capsule(), UPLOAD, OPENER)
    for part, value in ((Part.ORIGINAL, CUTOUT[1]), (Part.CUTOUT, PHOTO[1]), (Part.ORIGINAL, b"")):
        with pytest.raises(SealBroken):
            opened.data_key_of(part, sha256(value).digest())


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": Epoch("inference.shop", EPOCH.number)},
        {"photo": (bytes(31), b"")},
        {"photo": (bytes(31), b""), "cutout": (bytes(33), b"")},
    ],
)
def test_values_outside_the_format_are_not_sealed(changes: dict[str, Any]) -> None:
    with pytest.raises(InvariantBroken):
        capsule(**changes)


def test_the_purpose_is_the_sinks() -> None:
    """The catalog gives keys of this purpose to the sink only."""
    assert PURPOSE == KEPT


def open_vector(vector: dict[str, Any]) -> list[bytes]:
    """Open a vector, and return both keys."""
    raw = {
        name: bytes.fromhex(vector[name]) for name in ("capsule", "photo", "cutout", "epoch_key")
    }
    opener = EpochOpener.of(Epoch(PURPOSE, vector["epoch"]), raw["epoch_key"])
    opened = open_capsule(
        raw["capsule"], digest(vector["upload"], vector["lane"], vector["account"]), opener
    )
    return both_keys(opened, raw["photo"], raw["cutout"])


@pytest.mark.parametrize("vector", VECTORS["opens"], ids=["capsule"])
def test_vectors_open(vector: dict[str, Any]) -> None:
    assert [key.hex() for key in open_vector(vector)] == [vector["photo_key"], vector["cutout_key"]]


@pytest.mark.parametrize("vector", VECTORS["fails"], ids=lambda v: v["why"])
def test_failing_vectors_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(SealBroken):
        open_vector(vector)

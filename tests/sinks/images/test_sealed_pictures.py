"""Sealed pictures from the sink to the reader: the grant takes over, and the sink sees no pixel."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.schemas.errors import Erased, ErasestreamError, Unavailable
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.schemas.sealing.capsule import seal_capsule
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import (
    COMMITMENT_BYTES,
    Context,
    Header,
    UploadDigest,
    seal,
    upload_digest,
)
from erasestream.schemas.sealing.recipients import (
    Epoch,
    EpochOpener,
    EpochRecipient,
    GrantRecipient,
)
from erasestream.sinks.images.capsule_keys import CapsuleKeys, KeyDead, PictureBroken
from erasestream.sinks.keys.key_vault import mark_erased
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.keys.answers import NoKey
from tests.sinks.retention_harness import NOW, RetentionHarness, listed, picture

TIMES = EpochTimes()
NUMBER = TIMES.number(NOW)
UPLOAD = UploadId("018f3c4e-0000-7000-8000-000000000001")
OTHER_UPLOAD = UploadId("018f3c4e-0000-7000-8000-000000000002")
IMAGES = {
    Part.ORIGINAL: b"\xff\xd8\xff recognisable photo",
    Part.CUTOUT: b"\x89PNG\r\n\x1a\n recognisable cut-out",
}


@dataclass
class Answers:
    """Answers of the key service for the purpose `sink`: the key of one epoch, or `instead`."""

    key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    instead: NoKey | Unavailable | None = None
    asked: set[tuple[str, int]] = field(default_factory=set)
    drops: int = 0

    def opening_key(
        self,
        purpose: str,
        epoch: int,
        *,
        timeout_s: float,  # noqa: ARG002 (the real one waits)
    ) -> bytes | NoKey:
        self.asked.add((purpose, epoch))
        if isinstance(self.instead, Unavailable):
            raise self.instead
        return self.instead or self.key.private_bytes_raw()

    def drop_dead(self) -> None:
        self.drops += 1


@dataclass
class SealedUpload:
    """Photo and cut-out as they reach the sink, with their capsule."""

    answers: Answers
    grant: GrantId
    epoch: int = NUMBER
    upload_id: UploadId = UPLOAD

    def __post_init__(self) -> None:
        public = self.answers.key.public_key()
        keys = {part: bytes([part is Part.CUTOUT]) * 32 for part in Part}
        self.values = {part: self._seal(part, keys[part]) for part in Part}
        self.capsule = seal_capsule(
            self.digest,
            Epoch("sink", self.epoch),
            public,
            photo=(keys[Part.ORIGINAL], self.values[Part.ORIGINAL]),
            cutout=(keys[Part.CUTOUT], self.values[Part.CUTOUT]),
        )

    @property
    def digest(self) -> UploadDigest:
        event = picture(self.grant)
        return upload_digest(event.lane, event.account, self.upload_id)

    def _seal(self, part: Part, key: bytes) -> bytes:
        # An uploader may claim any type.
        context = Context(self.digest, part, "image/webp")
        recipient = EpochRecipient(
            Epoch("inference.shop", 1), X25519PrivateKey.generate().public_key()
        )
        return seal(IMAGES[part], context=context, recipients=[recipient], random=lambda _: key)

    def event(self, part: Part = Part.ORIGINAL, **changes: Any) -> Retained:
        """Return the event for the sink."""
        values = {"data": self.values[part], "capsule": self.capsule, "part": part}
        sealed = {"id": self.upload_id, "content_type": SEALED_CONTENT_TYPE}
        return picture(self.grant, **values | sealed | changes)


@pytest.fixture
def upload(grant: GrantId) -> SealedUpload:
    return SealedUpload(Answers(), grant)


@pytest.fixture
def capsules(upload: SealedUpload) -> CapsuleKeys:
    return CapsuleKeys(upload.answers, times=TIMES, now=lambda: NOW)


def test_the_grant_replaces_the_recipients_and_the_body_stays(
    harness: RetentionHarness, upload: SealedUpload, capsules: CapsuleKeys
) -> None:
    """The reader opens both pictures, with the types of their bytes."""
    sink = harness.sink(capsules=capsules)
    opened = {}
    for part in Part:
        name = str(sink.store(upload.event(part)))
        stored = harness.stack.store("images", "reader").read(name, 10_000)
        before, after = (
            Header.parse(each, upload.digest, part) for each in (upload.values[part], stored)
        )
        assert [block.kind for block in after.blocks] == [GrantRecipient.KIND]
        assert stored[body_at(after) :] == upload.values[part][body_at(before) :]
        opened[part] = harness.reader().open(name)
    assert opened == {
        Part.ORIGINAL: ("image/jpeg", IMAGES[Part.ORIGINAL]),
        Part.CUTOUT: ("image/png", IMAGES[Part.CUTOUT]),
    }
    assert upload.answers.asked == {("sink", NUMBER)}


def test_a_redelivered_sealed_picture_is_stored_once(
    harness: RetentionHarness, upload: SealedUpload, capsules: CapsuleKeys
) -> None:
    event = upload.event()
    names = {harness.sink(capsules=capsules).store(event) for _ in range(2)}
    assert len(names) == len(listed(harness, event)) == 1


CHANGES: dict[str, Callable[[SealedUpload], dict[str, Any]]] = {
    "another upload": lambda _: {"id": OTHER_UPLOAD},
    "another account": lambda _: {"account": AccountId("opted-in")},
    "another lane": lambda _: {"lane": Lane("bulk")},
    "the other part": lambda upload: {
        "part": Part.CUTOUT,
        "data": upload.values[Part.ORIGINAL],
    },
    "the other image": lambda upload: {"data": upload.values[Part.CUTOUT]},
    "a flipped bit": lambda upload: {"data": flipped(upload.values[Part.ORIGINAL])},
    "not an envelope": lambda _: {"data": b"\xff\xd8\xff pixels in clear"},
    "no capsule": lambda _: {"capsule": None},
    "a damaged capsule": lambda upload: {"capsule": flipped(upload.capsule)},
    "a capsule cut short": lambda upload: {"capsule": upload.capsule[:-1]},
    "another upload's capsule": lambda upload: {
        "capsule": SealedUpload(upload.answers, upload.grant, upload_id=OTHER_UPLOAD).capsule
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_picture_that_its_capsule_does_not_open_is_refused(
    harness: RetentionHarness,
    upload: SealedUpload,
    capsules: CapsuleKeys,
    change: Callable[[SealedUpload], dict[str, Any]],
) -> None:
    """Nothing is stored of it."""
    event = upload.event(**change(upload))
    with pytest.raises(PictureBroken):
        harness.sink(capsules=capsules).store(event)
    assert listed(harness, event) == []


def test_a_sealed_picture_needs_a_key_service(
    harness: RetentionHarness, upload: SealedUpload
) -> None:
    with pytest.raises(PictureBroken):
        harness.sink().store(upload.event())


@pytest.mark.parametrize(
    ("answer", "ahead_s", "error"),
    [
        (NoKey.EXPIRED, 0, KeyDead),
        (NoKey.UNKNOWN, 0, PictureBroken),
        (NoKey.FUTURE, 2 * TIMES.clock_error_s, Unavailable),
        (NoKey.FUTURE, 3 * TIMES.length_s, PictureBroken),
        (Unavailable("on purpose"), 0, Unavailable),
    ],
)
def test_what_the_key_service_answers_decides(
    harness: RetentionHarness,
    grant: GrantId,
    answer: NoKey | Unavailable,
    ahead_s: float,
    error: type[ErasestreamError],
) -> None:
    """A dead key drops the picture; a clock that is a little behind is waited for, and no more."""
    upload = SealedUpload(Answers(instead=answer), grant, epoch=NUMBER + 3)
    now = TIMES.begins(upload.epoch).timestamp() - ahead_s
    capsules = CapsuleKeys(
        upload.answers, times=TIMES, now=lambda: NOW.fromtimestamp(now, tz=NOW.tzinfo)
    )
    with pytest.raises(error):
        harness.sink(capsules=capsules).store(upload.event())
    assert listed(harness, upload.event()) == []


def test_the_sink_can_seal_while_the_key_service_answers(
    harness: RetentionHarness, upload: SealedUpload, capsules: CapsuleKeys
) -> None:
    sink = harness.sink(capsules=capsules)
    assert sink.can_seal()
    upload.answers.instead = Unavailable("on purpose")
    assert not sink.can_seal()


def test_dead_keys_are_dropped_at_each_attempt(
    harness: RetentionHarness, upload: SealedUpload, capsules: CapsuleKeys
) -> None:
    """Also where it does not come to a key: the vault may be unavailable for a day."""
    mark_erased(harness.eraser(), upload.grant)
    with pytest.raises(Erased):
        harness.sink(capsules=capsules).store(upload.event())
    assert (upload.answers.asked, upload.answers.drops) == (set(), 1)


def test_the_opener_of_a_dead_key_leaves_the_memory(
    harness: RetentionHarness, upload: SealedUpload
) -> None:
    now = NOW
    capsules = CapsuleKeys(upload.answers, times=TIMES, now=lambda: now)
    harness.sink(capsules=capsules).store(upload.event())
    capsules.drop_dead()
    assert openers(upload.epoch) == 1
    now = TIMES.dies(upload.epoch)
    capsules.drop_dead()
    assert openers(upload.epoch) == 0


def openers(epoch: int) -> int:
    """Return how many openers of an epoch are in memory."""
    gc.collect()
    found = (each for each in gc.get_objects() if isinstance(each, EpochOpener))
    return sum(each.epoch.number == epoch for each in found)


def body_at(header: Header) -> int:
    return len(header.raw) + COMMITMENT_BYTES


def flipped(raw: bytes) -> bytes:
    """Return the bytes with the last bit changed."""
    return raw[:-1] + bytes([raw[-1] ^ 1])

"""The envelope: sealed pictures open for their recipients, and all other bytes are refused."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from erasestream.schemas.errors import InvariantBroken, SealBroken
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.schemas.sealing.envelope import (
    COMMITMENT_BYTES,
    MAX_PLAINTEXT_BYTES,
    Context,
    Header,
    UploadDigest,
    data_key_of,
    open_sealed,
    open_with_data_key,
    replace_recipients,
    seal,
    upload_digest,
)
from erasestream.schemas.sealing.recipients import (
    Epoch,
    EpochOpener,
    EpochRecipient,
    GrantRecipient,
    Opener,
)

KEY = bytes(range(32))
GRANT = GrantId("01890a5d-ac96-8f3a-8b2c-0123456789ab")
LANE, ACCOUNT = Lane("shop"), AccountId("acct-17")
ID = UploadId("018f3c4e-0000-7000-8000-000000000001")
UPLOAD = upload_digest(LANE, ACCOUNT, ID)
OTHER_UPLOAD = upload_digest(LANE, ACCOUNT, UploadId("018f3c4e-0000-7000-8000-000000000002"))
NAME = "owner/grant/upload.original.digest"
CONTEXT = Context(UPLOAD, Part.ORIGINAL, "image/png")
TO_GRANT = GrantRecipient(GRANT, KEY, NAME)
EPOCH = Epoch("inference.shop", 494_001)
EPOCH_KEY = X25519PrivateKey.generate()
TO_EPOCH = EpochRecipient(EPOCH, EPOCH_KEY.public_key())
BY_EPOCH = EpochOpener(EPOCH, EPOCH_KEY)
OPENERS: list[Opener] = [TO_GRANT, BY_EPOCH]

openers = pytest.mark.parametrize("opener", OPENERS, ids=["grant", "epoch"])


def sealed(plaintext: bytes = b"picture", **changes: Any) -> bytes:
    """Seal for a grant and an epoch."""
    values: dict[str, Any] = {"context": CONTEXT, "recipients": [TO_GRANT, TO_EPOCH]}
    return seal(plaintext, **values | changes)


def opened(raw: bytes, opener: Opener = TO_GRANT, **changes: Any) -> tuple[str, bytes]:
    """Open a picture, expecting the default values."""
    values: dict[str, Any] = {"upload": UPLOAD, "part": Part.ORIGINAL, "opener": opener}
    return open_sealed(raw, **values | changes)


@given(
    st.binary(max_size=300),
    st.binary(min_size=32, max_size=32),
    st.uuids(),
    st.text(max_size=255),
    st.sampled_from(Part),
    st.from_regex(r"[a-z]+/[a-z0-9.+-]{1,64}", fullmatch=True).filter(lambda t: len(t) <= 128),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=200),
)
def test_a_sealed_picture_opens(
    plaintext: bytes, key: bytes, unique: Any, text: str, part: Part, content_type: str, name: str
) -> None:
    """For any picture and any values, and each recipient."""
    upload = upload_digest(LANE, ACCOUNT, UploadId(text))
    grant = GrantRecipient(GrantId(str(unique)), key, name)
    context = Context(upload, part, content_type)
    raw = seal(plaintext, context=context, recipients=[TO_EPOCH, grant])
    openers: list[Opener] = [grant, BY_EPOCH]
    for opener in openers:
        result = open_sealed(raw, upload=upload, part=part, opener=opener)
        assert result == (content_type, plaintext)


@openers
def test_every_flipped_bit_is_refused(opener: Opener) -> None:
    """Of header, all blocks, commitment, body and tag, for each recipient."""
    raw = sealed()
    for at in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[at] ^= 1 << bit
            with pytest.raises(SealBroken):
                opened(bytes(changed), opener)


@openers
def test_every_truncation_and_extension_is_refused(opener: Opener) -> None:
    raw = sealed()
    for end in range(len(raw)):
        with pytest.raises(SealBroken):
            opened(raw[:end], opener)
    with pytest.raises(SealBroken):
        opened(raw + b"\0", opener)


@pytest.mark.parametrize(
    "expected",
    [
        {"upload": OTHER_UPLOAD},
        {"upload": upload_digest(LANE, ACCOUNT, UploadId(ID.upper()))},
        {"upload": upload_digest(LANE, ACCOUNT, UploadId(""))},
        {"upload": upload_digest(Lane("shops"), ACCOUNT, ID)},
        {"upload": upload_digest(LANE, AccountId("acct-18"), ID)},
        {"upload": upload_digest(LANE, AccountId(f"{ACCOUNT}{ID[0]}"), UploadId(ID[1:]))},
        {"part": Part.CUTOUT},
        {"opener": GrantRecipient(GrantId("01890a5d-ac96-8f3a-8b2c-0123456789ac"), KEY, NAME)},
        {"opener": GrantRecipient(GRANT, KEY, NAME + "x")},
        {"opener": GrantRecipient(GRANT, bytes(32), NAME)},
        {"opener": EpochOpener(Epoch("sink", 494_001), EPOCH_KEY)},
        {"opener": EpochOpener(Epoch("inference.shop", 494_002), EPOCH_KEY)},
        {"opener": EpochOpener(EPOCH, X25519PrivateKey.generate())},
    ],
)
def test_a_picture_opens_only_for_the_expected_values(expected: dict[str, Any]) -> None:
    with pytest.raises(SealBroken):
        opened(sealed(), **expected)


@openers
def test_the_block_of_another_record_is_refused(opener: Opener) -> None:
    """Even under a valid commitment of the other record's data key: its own part is bound."""
    known = bytes(32)
    one = sealed(random=lambda _: known)
    other = seal(
        b"picture",
        context=Context(OTHER_UPLOAD, Part.ORIGINAL, "image/png"),
        recipients=[TO_GRANT, TO_EPOCH],
        random=lambda _: known,
    )
    header = Header.parse(one, UPLOAD, Part.ORIGINAL)
    blocks = Header.parse(other, OTHER_UPLOAD, Part.ORIGINAL).blocks

    class Replayed:
        """A recipient with the block of the other record."""

        def __init__(self, at: int) -> None:
            self._at = at

        def encrypt(self, data_key: bytes, context: bytes) -> Any:
            del data_key, context
            return blocks[self._at]

    forged = replace_recipients(
        one,
        upload=UPLOAD,
        part=Part.ORIGINAL,
        data_key=known,
        recipients=[Replayed(at) for at in range(len(header.blocks))],
    )
    with pytest.raises(SealBroken):
        opened(forged, opener)


def test_recipients_are_replaced_without_touching_the_body() -> None:
    before = sealed(recipients=[TO_EPOCH])
    place = {"upload": UPLOAD, "part": Part.ORIGINAL}
    key = data_key_of(before, **place, opener=BY_EPOCH)
    after = replace_recipients(before, **place, data_key=key, recipients=[TO_GRANT])
    size = len(b"picture") + 16
    assert after[-size:] == before[-size:]
    assert opened(after, TO_GRANT) == ("image/png", b"picture")
    assert open_with_data_key(after, **place, data_key=key).plaintext == b"picture"
    with pytest.raises(SealBroken):
        opened(after, BY_EPOCH)


def test_recipients_are_replaced_only_under_the_data_key() -> None:
    place = {"upload": UPLOAD, "part": Part.ORIGINAL}
    with pytest.raises(SealBroken):
        replace_recipients(sealed(), **place, data_key=bytes(32), recipients=[TO_GRANT])


def test_a_data_key_is_returned_only_of_an_authentic_header() -> None:
    """The body is not looked at; the header with all its blocks is."""
    place = {"upload": UPLOAD, "part": Part.ORIGINAL}
    raw = sealed(random=lambda _: KEY)
    assert data_key_of(raw[:-1] + bytes([raw[-1] ^ 1]), **place, opener=TO_GRANT) == KEY
    for at in range(len(raw) - len(b"picture") - 16):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(SealBroken):
            data_key_of(changed, **place, opener=TO_GRANT)


def test_the_error_does_not_reveal_which_check_failed() -> None:
    messages = set()
    raw = sealed()
    for broken in (b"", raw[:-1], b"X" + raw[1:], raw[:150] + b"\0" + raw[151:]):
        with pytest.raises(SealBroken) as caught:
            opened(broken)
        messages.add(str(caught.value))
    assert len(messages) == 1


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    """With `SealBroken`, never another error."""
    for begin in (0, 38, 48, 49):
        with pytest.raises(SealBroken):
            opened(sealed()[:begin] + raw)


def test_sealing_a_picture_twice_gives_different_bodies() -> None:
    one, two = sealed(), sealed()
    assert one[-23:] != two[-23:]
    assert len(one) == len(two)


@pytest.mark.parametrize(
    "changes",
    [
        {"context": Context(UPLOAD, Part.ORIGINAL, "IMAGE/PNG")},
        {"context": Context(UPLOAD, Part.ORIGINAL, "")},
        {"context": Context(UPLOAD, Part.ORIGINAL, "a" * 127 + "/b")},
        {"context": Context(UploadDigest(b"no digest"), Part.ORIGINAL, "image/png")},
        {"recipients": []},
        {"recipients": [TO_GRANT, TO_GRANT]},
        {"recipients": [EpochRecipient(Epoch("a", n), TO_EPOCH.key) for n in range(5)]},
        {"random": lambda n: bytes(n - 1)},
        {"recipients": [GrantRecipient(GRANT, KEY, NAME, random=lambda n: bytes(n - 1))]},
    ],
)
def test_values_outside_the_format_are_not_sealed(changes: dict[str, Any]) -> None:
    """Values that could not be opened again stop the process instead of losing a picture."""
    with pytest.raises(InvariantBroken):
        sealed(**changes)


@pytest.mark.parametrize(
    ("grant", "key", "name"),
    [
        (GrantId("not-a-uuid"), KEY, NAME),
        (GRANT, b"short", NAME),
        (GRANT, KEY, ""),
        (GRANT, KEY, "x" * 1025),
    ],
)
def test_a_grant_outside_the_format_is_no_recipient(grant: GrantId, key: bytes, name: str) -> None:
    with pytest.raises(InvariantBroken):
        GrantRecipient(grant, key, name)


@pytest.mark.parametrize(
    ("purpose", "number"), [("", 1), ("Sink", 1), ("a" * 65, 1), ("sink", -1), ("sink", 1 << 64)]
)
def test_an_epoch_outside_the_format_is_refused(purpose: str, number: int) -> None:
    with pytest.raises(InvariantBroken):
        Epoch(purpose, number)


def test_a_picture_above_the_limit_is_not_sealed() -> None:
    """A reader would refuse it by its length."""
    with pytest.raises(InvariantBroken):
        sealed(bytes(MAX_PLAINTEXT_BYTES + 1))


def test_the_header_ends_where_the_commitment_begins() -> None:
    raw = sealed(b"picture")
    header = Header.parse(raw, UPLOAD, Part.ORIGINAL)
    assert raw.startswith(header.raw)
    assert len(raw) == len(header.raw) + COMMITMENT_BYTES + len(b"picture") + 16

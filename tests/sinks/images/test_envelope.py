"""The envelope: sealed objects open, and all other bytes are refused."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from erasestream.schemas.errors import InvariantBroken, SealBroken
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import GrantId
from erasestream.sinks.images.envelope import MAX_PLAINTEXT_BYTES, open_sealed, seal
from tests.paths import ROOT

VECTORS = json.loads((ROOT / "sinks/vectors/esv1.json").read_text())
KEY = bytes(range(32))
GRANT = GrantId("01890a5d-ac96-8f3a-8b2c-0123456789ab")
NAME = "owner/grant/upload.original.digest"


def sealed(plaintext: bytes = b"picture", **changes: Any) -> bytes:
    """Seal with default values."""
    values: dict[str, Any] = {
        "grant_key": KEY,
        "grant": GRANT,
        "part": Part.ORIGINAL,
        "content_type": "image/png",
        "name": NAME,
    }
    return seal(plaintext, **values | changes)


def opened(raw: bytes, **changes: Any) -> tuple[str, bytes]:
    """Open an object, expecting the default values."""
    values: dict[str, Any] = {"grant_key": KEY, "grant": GRANT, "part": Part.ORIGINAL, "name": NAME}
    return open_sealed(raw, **values | changes)


@given(
    st.binary(max_size=300),
    st.binary(min_size=32, max_size=32),
    st.uuids(),
    st.sampled_from(Part),
    st.from_regex(r"[a-z]+/[a-z0-9.+-]{1,64}", fullmatch=True).filter(lambda t: len(t) <= 128),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=200),
)
def test_a_sealed_picture_opens(
    plaintext: bytes, key: bytes, grant: Any, part: Part, content_type: str, name: str
) -> None:
    """For any picture and any values."""
    raw = seal(
        plaintext,
        grant_key=key,
        grant=GrantId(str(grant)),
        part=part,
        content_type=content_type,
        name=name,
    )
    result = open_sealed(raw, grant_key=key, grant=GrantId(str(grant)), part=part, name=name)
    assert result == (content_type, plaintext)


def test_every_flipped_bit_is_refused() -> None:
    """Of header, commitment, body and tag."""
    raw = sealed()
    for at in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[at] ^= 1 << bit
            with pytest.raises(SealBroken):
                opened(bytes(changed))


def test_every_truncation_and_extension_is_refused() -> None:
    raw = sealed()
    for end in range(len(raw)):
        with pytest.raises(SealBroken):
            opened(raw[:end])
    with pytest.raises(SealBroken):
        opened(raw + b"\0")


@pytest.mark.parametrize(
    "expected",
    [
        {"grant": GrantId("01890a5d-ac96-8f3a-8b2c-0123456789ac")},
        {"grant": GrantId(GRANT.upper())},
        {"part": Part.CUTOUT},
        {"name": NAME + "x"},
        {"name": ""},
        {"grant_key": bytes(32)},
    ],
)
def test_an_object_opens_only_for_the_expected_values(expected: dict[str, Any]) -> None:
    with pytest.raises(SealBroken):
        opened(sealed(), **expected)


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
    for candidate in (raw, sealed()[:22] + raw):
        with pytest.raises(SealBroken):
            opened(candidate)


def test_sealing_a_picture_twice_gives_different_bodies() -> None:
    """Salt and data key are fresh."""
    one, two = sealed(), sealed()
    assert one[-23:] != two[-23:]
    assert len(one) == len(two)


@pytest.mark.parametrize(
    "changes",
    [
        {"content_type": "IMAGE/PNG"},
        {"content_type": ""},
        {"content_type": "a" * 127 + "/b"},
        {"name": ""},
        {"name": "x" * 1025},
        {"grant": GrantId("not-a-uuid")},
        {"grant_key": b"short"},
        {"random": lambda n: bytes(n - 1)},
    ],
)
def test_values_outside_the_format_are_not_sealed(changes: dict[str, Any]) -> None:
    """Values that could not be opened again stop the process instead of losing a picture."""
    with pytest.raises(InvariantBroken):
        sealed(**changes)


def test_a_picture_above_the_limit_is_not_sealed() -> None:
    """A reader would refuse it by its length."""
    with pytest.raises(InvariantBroken):
        sealed(bytes(MAX_PLAINTEXT_BYTES + 1))


@pytest.mark.parametrize("vector", VECTORS["opens"], ids=lambda v: v["name"])
def test_vectors_open_and_are_reproduced(vector: dict[str, str]) -> None:
    drawn = iter((bytes.fromhex(vector["salt"]), bytes.fromhex(vector["data_key"])))
    values: dict[str, Any] = {
        "grant_key": bytes.fromhex(vector["grant_key"]),
        "grant": GrantId(vector["grant"]),
        "part": Part(vector["part"]),
        "name": vector["object"],
    }
    raw, plaintext = bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["plaintext"])
    assert open_sealed(raw, **values) == (vector["content_type"], plaintext)
    again = seal(
        plaintext, content_type=vector["content_type"], random=lambda _: next(drawn), **values
    )
    assert again == raw


@pytest.mark.parametrize("vector", VECTORS["fails"], ids=lambda v: v["why"])
def test_failing_vectors_are_refused(vector: dict[str, str]) -> None:
    with pytest.raises(SealBroken):
        open_sealed(
            bytes.fromhex(vector["sealed"]),
            grant_key=bytes.fromhex(vector["grant_key"]),
            grant=GrantId(vector["grant"]),
            part=Part(vector["part"]),
            name=vector["object"],
        )


def _hkdf(key: bytes, salt: bytes, info: bytes, blocks: int) -> bytes:
    """RFC 5869 with the standard library."""
    prk, output, block = hmac.digest(salt, key, "sha256"), b"", b""
    for counter in range(1, blocks + 1):
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        output += block
    return output


@pytest.mark.parametrize("vector", VECTORS["opens"], ids=lambda v: v["name"])
def test_vectors_follow_the_document(vector: dict[str, str]) -> None:
    """An independent implementation of ENVELOPE.md gives the same bytes."""
    salt, data_key = bytes.fromhex(vector["salt"]), bytes.fromhex(vector["data_key"])
    kind, name = vector["content_type"].encode(), vector["object"].encode()
    bound = b"ESV1\x01" + bytes.fromhex(vector["grant"].replace("-", ""))
    bound += {"original": b"\x01", "cutout": b"\x02"}[vector["part"]]
    bound += len(kind).to_bytes(2, "big") + kind + len(name).to_bytes(2, "big") + name + salt
    wrapping = _hkdf(bytes.fromhex(vector["grant_key"]), salt, b"erasestream/v1/wrap", 1)
    header = bound + AESGCM(wrapping).encrypt(bytes(12), data_key, bound)
    info = b"erasestream/v1/body" + hashlib.sha256(header).digest()
    keys = _hkdf(data_key, salt, info, 2)
    aad = header + keys[32:]
    body = AESGCM(keys[:32]).encrypt(bytes(12), bytes.fromhex(vector["plaintext"]), aad)
    assert (aad + body).hex() == vector["sealed"]

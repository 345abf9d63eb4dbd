"""The vectors: what opens, what is reproduced byte for byte, and what is refused."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.schemas.errors import SealBroken
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import GrantId
from erasestream.schemas.sealing.envelope import (
    Context,
    UploadDigest,
    data_key_of,
    open_sealed,
    seal,
    upload_digest,
)
from erasestream.schemas.sealing.recipients import Epoch, EpochOpener, GrantRecipient, Opener
from tests.paths import ROOT

VECTORS = json.loads((ROOT / "schemas/sealing/vectors/esv2.json").read_text())


def digest_of(vector: dict[str, Any]) -> UploadDigest:
    """Return the digest of the vector's upload."""
    return upload_digest(vector["lane"], vector["account"], vector["upload"])


def vector_openers(vector: dict[str, Any]) -> list[Opener]:
    """Return those whose keys the vector has."""
    found: list[Opener] = []
    if "grant_key" in vector:
        key, salt = bytes.fromhex(vector["grant_key"]), bytes.fromhex(vector.get("salt", ""))
        grant = GrantId(vector["grant"])
        found.append(GrantRecipient(grant, key, vector["object"], random=lambda _: salt))
    if "epoch_key" in vector:
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["epoch_key"]))
        found.append(EpochOpener(Epoch(vector["purpose"], vector["epoch"]), private))
    return found


@pytest.mark.parametrize("vector", VECTORS["opens"], ids=lambda v: v["name"])
def test_vectors_open(vector: dict[str, Any]) -> None:
    raw, plaintext = bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["plaintext"])
    place: dict[str, Any] = {"upload": digest_of(vector), "part": Part(vector["part"])}
    openers = vector_openers(vector)
    assert openers
    for opener in openers:
        assert open_sealed(raw, **place, opener=opener) == (vector["content_type"], plaintext)
        assert data_key_of(raw, **place, opener=opener).hex() == vector["data_key"]


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS["opens"] if "epoch" not in v], ids=lambda v: v["name"]
)
def test_vectors_of_grants_are_reproduced(vector: dict[str, Any]) -> None:
    (grant,) = vector_openers(vector)
    assert isinstance(grant, GrantRecipient)
    again = seal(
        bytes.fromhex(vector["plaintext"]),
        context=Context(digest_of(vector), Part(vector["part"]), vector["content_type"]),
        recipients=[grant],
        random=lambda _: bytes.fromhex(vector["data_key"]),
    )
    assert again.hex() == vector["sealed"]


@pytest.mark.parametrize("vector", VECTORS["fails"], ids=lambda v: v["why"])
def test_failing_vectors_are_refused(vector: dict[str, Any]) -> None:
    (opener,) = vector_openers(vector)
    with pytest.raises(SealBroken):
        open_sealed(
            bytes.fromhex(vector["sealed"]),
            upload=digest_of(vector),
            part=Part(vector["part"]),
            opener=opener,
        )

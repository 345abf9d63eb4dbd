"""Names of retained pictures: canonical, and without the name key anonymous."""

import hmac
import json
from collections.abc import Iterator
from hashlib import sha256
from uuid import UUID

import pytest

from erasestream.schemas.errors import (
    InvariantBroken,
    SealBroken,
)
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId, is_uuid
from erasestream.sinks.images.object_names import ObjectNamer, StoredName
from tests.paths import ROOT
from tests.sinks.retention_harness import name_of, picture

VECTORS = json.loads((ROOT / "schemas/sealing/vectors/esv2.json").read_text())["names"]


def malformed() -> Iterator[str]:
    """Yield names that are almost canonical."""
    good = StoredName(
        "a" * 64,
        GrantId("0" * 8 + "-0000-8000-8000-" + "0" * 12),
        UploadId("018f3c4e-0000-7000-8000-000000000001"),
        Part.CUTOUT,
        "b" * 64,
    )
    text = str(good)
    assert StoredName.parse(text) == good
    yield from ("", text[1:], text + "0", text.upper(), text.replace("/", "."), text + "/x")
    yield from (text.replace("cutout", "mask"), text.replace("018f", "018F"), f"{text}\n")


@pytest.mark.parametrize("name", list(malformed()))
def test_only_canonical_names_are_parsed(name: str) -> None:
    with pytest.raises(SealBroken):
        StoredName.parse(name)


def test_names_depend_on_the_name_key() -> None:
    """Lane and account are not ambiguous when concatenated."""
    one, other = ObjectNamer(bytes(32)), ObjectNamer(bytes([1]) * 32)
    lane, account = Lane("shop"), AccountId("a")
    assert one.owner(lane, account) != other.owner(lane, account)
    assert one.owner(Lane("sho"), AccountId("pa")) != one.owner(lane, account)
    with pytest.raises(InvariantBroken):
        ObjectNamer(b"short")


GRANT = GrantId("6f1c2b3a-4d5e-8f60-9a7b-8c9d0e1f2a3b")
OTHERS = {
    "lane": Lane("bulk"),
    "account": AccountId("another"),
    "grant": GrantId("6f1c2b3a-4d5e-8f60-9a7b-8c9d0e1f2a3c"),
    "id": UploadId("018f3c4e-0000-7000-8000-000000000002"),
    "part": Part.CUTOUT,
}


@pytest.mark.parametrize("field", OTHERS)
def test_the_same_picture_has_an_unrelated_code_elsewhere(field: str) -> None:
    """Of another owner, grant, upload or part: the bucket cannot tell that it is the same."""
    event = picture(GRANT)
    other = event.model_copy(update={field: OTHERS[field]})
    assert name_of(event) == name_of(event.model_copy())
    assert name_of(other).content != name_of(event).content


def test_a_picture_that_is_an_owners_text_has_another_code() -> None:
    """Each use of the name key has a label of its own."""
    namer, event = ObjectNamer(bytes(32)), picture(GRANT)
    owner = f"{event.lane}\0{event.account}".encode()
    assert namer.name(event, owner).content != namer.owner(event.lane, event.account)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['id']}.{vector['part']}")
def test_names_follow_the_document(vector: dict[str, str]) -> None:
    """The construction of `schemas/sealing/ENVELOPE.md`, written down a second time."""
    key = bytes.fromhex(vector["name_key"])

    def code(text: str) -> str:
        return hmac.digest(key, text.encode("latin-1"), "sha256").hex()

    owner = code(f"erasestream/v1/name/owner\0{vector['lane']}\0{vector['account']}")
    upload = vector["id"]
    if not is_uuid(upload):
        text = f"{vector['lane']}\0{vector['account']}\0{upload}"
        digits = list(code(f"erasestream/v1/name/upload\0{text}")[:32])
        digits[12], digits[16] = "8", "89ab"[int(digits[16], 16) & 3]
        upload = str(UUID("".join(digits)))
    before = f"{owner}/{vector['grant']}/{upload}.{vector['part']}."
    data = bytes.fromhex(vector["picture"])
    digest = sha256(data).digest().decode("latin-1")
    content = code(f"erasestream/v1/name/content\0{before}\0{digest}")
    assert vector["object"] == before + content
    event = picture(GrantId(vector["grant"]), data)
    fields = {name: vector[name] for name in ("lane", "account", "id")}
    event = event.model_copy(update={**fields, "part": Part(vector["part"])})
    assert str(name_of(event, key)) == vector["object"]

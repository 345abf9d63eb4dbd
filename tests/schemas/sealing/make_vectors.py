"""Generate `schemas/sealing/vectors/esv2.json`: `python tests/schemas/sealing/make_vectors.py`.

Vectors of grants never change: a change of theirs is a new version of the format.  Blocks of epochs
have a random key, so that generating again changes their vectors.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.schemas.sealing.envelope import Context, seal, upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochRecipient, GrantRecipient, Recipient
from erasestream.sinks.images.object_names import ObjectNamer
from tests.paths import ROOT

TARGET = ROOT / "schemas" / "sealing" / "vectors" / "esv2.json"
GRANT = "6f1c2b3a-4d5e-8f60-9a7b-8c9d0e1f2a3b"
OTHER_GRANT = "6f1c2b3a-4d5e-8f60-9a7b-8c9d0e1f2a3c"
LANE, ACCOUNT = "shop", "acct-17"
UPLOAD = "018f3c4e-0000-7000-8000-000000000001"
OTHER_UPLOAD = "018f3c4e-0000-7000-8000-000000000002"
OBJECT = f"{'ab' * 32}/{GRANT}/{UPLOAD}.original.{'cd' * 32}"
EPOCH = Epoch("inference.shop", 494_001)


def digest(text: str) -> bytes:
    """Return 32 bytes that look random, and are the same each time."""
    return hashlib.sha256(text.encode()).digest()


GRANT_KEY, OTHER_KEY = digest("grant key"), digest("another grant's key")
EPOCH_KEY, OTHER_EPOCH_KEY = digest("epoch key"), digest("another epoch's key")


def grant_recipient(name: str, salt: bytes) -> GrantRecipient:
    """Return the grant of the vectors."""
    return GrantRecipient(GrantId(GRANT), GRANT_KEY, name, random=lambda _: salt)


def epoch_recipient(epoch: Epoch = EPOCH) -> EpochRecipient:
    """Return the epoch of the vectors."""
    return EpochRecipient(epoch, X25519PrivateKey.from_private_bytes(EPOCH_KEY).public_key())


def vector(
    name: str,
    plaintext: bytes,
    *,
    part: str = "original",
    content_type: str = "image/png",
    upload: str = UPLOAD,
    obj: str = OBJECT,
    recipients: str = "grant",
) -> dict[str, Any]:
    """Return a vector that opens."""
    salt, data_key = digest(f"salt {name}"), digest(f"data key {name}")
    known: dict[str, Recipient] = {
        "grant": grant_recipient(obj, salt),
        "epoch": epoch_recipient(),
        "later epoch": epoch_recipient(Epoch(EPOCH.purpose, EPOCH.number + 1)),
    }
    of_upload = upload_digest(Lane(LANE), AccountId(ACCOUNT), UploadId(upload))
    raw = seal(
        plaintext,
        context=Context(of_upload, Part(part), content_type),
        recipients=[known[each] for each in recipients.split(" and ")],
        random=lambda _: data_key,
    )
    values: dict[str, Any] = {
        "name": name,
        "lane": LANE,
        "account": ACCOUNT,
        "upload": upload,
        "part": part,
        "content_type": content_type,
        "data_key": data_key.hex(),
        "plaintext": plaintext.hex(),
        "sealed": raw.hex(),
    }
    if "grant" in recipients:
        values |= {"grant": GRANT, "grant_key": GRANT_KEY.hex(), "object": obj, "salt": salt.hex()}
    if "epoch" in recipients:
        values |= {"purpose": EPOCH.purpose, "epoch": EPOCH.number, "epoch_key": EPOCH_KEY.hex()}
    return values


def opening_vectors() -> list[dict[str, Any]]:
    """Return the vectors that open."""
    cutout = OBJECT.replace("original", "cutout")
    return [
        vector("original", b"\x89PNG of no pixels"),
        vector("cutout", bytes(range(256)), part="cutout", content_type="image/webp", obj=cutout),
        vector("empty", b"", content_type="image/jpeg"),
        vector("name and id in UTF-8", b"x", obj="grün/☃", upload="order 4711/für ☃"),
        vector("epoch", b"\x89PNG of no pixels", recipients="epoch"),
        vector("grant and two epochs", b"both", recipients="later epoch and grant and epoch"),
    ]


def body_at(raw: bytes, blocks: int) -> int:
    """Return where the commitment begins."""
    at = 39 + raw[38] + 1
    for _ in range(blocks):
        at += 3 + int.from_bytes(raw[at + 1 : at + 3], "big")
    return at


def committed(base: dict[str, Any], header: bytes, body: bytes) -> bytes:
    """Return an envelope whose commitment is that of the base's data key and context."""
    context = bytes.fromhex(base["sealed"])[: 39 + len(base["content_type"])]
    info = b"erasestream/v2/body" + hashlib.sha256(context).digest()
    keys = HKDF(algorithm=SHA256(), length=64, salt=None, info=info).derive(
        bytes.fromhex(base["data_key"])
    )
    return header + hmac.digest(keys[32:], header, "sha256") + body


def uncommitted(base: dict[str, Any], commitment_at: int) -> bytes:
    """Return an envelope with an authentic body behind another commitment."""
    raw = bytes.fromhex(base["sealed"])
    return raw[:commitment_at] + bytes(32) + raw[commitment_at + 32 :]


def with_other_body(base: dict[str, Any], commitment_at: int) -> bytes:
    """Return an envelope with the body of another data key behind an authentic header."""
    raw = bytes.fromhex(base["sealed"])
    context = raw[: 39 + len(base["content_type"])]
    other = AESGCM(bytes(32)).encrypt(bytes(12), b"other", context)
    return raw[: commitment_at + 32] + other


def failing_vectors(base: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield changes of a grant's vector, each of which is refused."""
    raw = bytes.fromhex(base["sealed"])
    kind_at = 38
    count_at = 39 + len("image/png")
    block_at = count_at + 1
    commitment_at = body_at(raw, 1)
    block, after = raw[block_at:commitment_at], raw[commitment_at:]
    values = {
        k: base[k] for k in ("grant_key", "grant", "lane", "account", "upload", "part", "object")
    }

    def fails(why: str, sealed: bytes = raw, **expected: str) -> dict[str, Any]:
        return {"why": why, "sealed": sealed.hex()} | values | expected

    def flip(at: int) -> bytes:
        return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]

    def with_blocks(count: int, blocks: bytes) -> bytes:
        return committed(base, raw[:count_at] + bytes([count]) + blocks, after[32:])

    unknown = b"\x03" + block[1:]
    later = block[:18] + bytes([block[18] ^ 1]) + block[19:]
    yield fails("empty", b"")
    yield fails("magic", flip(0))
    yield fails("unknown suite", raw[:4] + b"\x02" + raw[5:])
    yield fails("upload in the header changed", flip(5))
    yield fails("part 0", raw[:37] + b"\0" + raw[38:])
    yield fails("part changed to cut-out", raw[:37] + b"\x02" + raw[38:], part="cutout")
    yield fails("content type length beyond its bound", raw[:kind_at] + b"\xff" + raw[39:])
    yield fails("content type changed", raw.replace(b"image/png", b"image/gif", 1))
    yield fails("content type in upper case", raw.replace(b"image/png", b"IMAGE/PNG", 1))
    yield fails("no blocks", with_blocks(0, b""))
    yield fails("five blocks", with_blocks(5, block * 5))
    yield fails("number of blocks beyond the blocks", raw[:count_at] + b"\x02" + raw[block_at:])
    yield fails("a block twice", with_blocks(2, block * 2))
    yield fails("blocks in descending order", with_blocks(2, max(block, later) + min(block, later)))
    yield fails("a block of an unknown kind", with_blocks(2, block + unknown))
    yield fails("a block one byte longer", with_blocks(1, b"\x01\x00\x61" + block[3:] + b"\0"))
    yield fails("block length beyond the envelope", raw[:block_at] + b"\x01\xff\xff" + block[3:])
    yield fails("salt", flip(block_at + 19))
    yield fails("wrapped data key", flip(block_at + 51))
    yield fails("wrapping tag", flip(commitment_at - 1))
    yield fails("commitment", flip(commitment_at))
    yield fails("authentic body behind another commitment", uncommitted(base, commitment_at))
    yield fails("another body behind an authentic header", with_other_body(base, commitment_at))
    yield fails("body", flip(commitment_at + 32))
    yield fails("body tag", flip(len(raw) - 1))
    yield fails("one byte too few", raw[:-1])
    yield fails("one byte too many", raw + b"\0")
    yield fails("cut within the commitment", raw[: commitment_at + 5])
    yield fails("expected another grant", grant=OTHER_GRANT)
    yield fails("expected another upload", upload=OTHER_UPLOAD)
    yield fails("expected another lane", lane="bulk")
    yield fails("expected another account", account="acct-18")
    yield fails("account and id divided elsewhere", account="acct-170", upload=UPLOAD[1:])
    yield fails("expected another part", part="cutout")
    yield fails("expected another name", object=OBJECT + "0")
    yield fails("another grant's key", grant_key=OTHER_KEY.hex())


def failing_epochs(base: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield changes of an epoch's vector, each of which is refused."""
    raw = bytes.fromhex(base["sealed"])
    names = ("purpose", "epoch", "epoch_key", "lane", "account", "upload", "part")
    values = {name: base[name] for name in names}
    purpose_at = raw.index(b"inference.shop")
    number_at = purpose_at + len("inference.shop")

    def fails(why: str, sealed: bytes = raw, **expected: Any) -> dict[str, Any]:
        return {"why": f"epoch: {why}", "sealed": sealed.hex()} | values | expected

    def flip(at: int) -> bytes:
        return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]

    yield fails("encapsulated key", flip(number_at + 8))
    yield fails(
        "encapsulated key of zeros", raw[: number_at + 8] + bytes(32) + raw[number_at + 40 :]
    )
    yield fails("encrypted data key", flip(number_at + 40))
    yield fails("number in the block changed", flip(number_at + 7))
    yield fails(
        "number changed in the block and expected", flip(number_at + 7), epoch=EPOCH.number ^ 1
    )
    yield fails("purpose in capitals", raw.replace(b"inference", b"Inference", 1))
    yield fails("expected another purpose", purpose="sink")
    yield fails("expected another lane's purpose", purpose="inference.bulk")
    yield fails("expected another epoch", epoch=EPOCH.number + 1)
    yield fails("another epoch's key", epoch_key=OTHER_EPOCH_KEY.hex())


def names() -> Iterator[dict[str, str]]:
    """Yield the name of each part of an upload; the cut-out has zero bytes, the last id is text."""
    key = digest("name key")
    for id_, part, data in (
        (UploadId(UPLOAD), Part.ORIGINAL, b"\x89PNG of no pixels"),
        (UploadId(UPLOAD), Part.CUTOUT, bytes(4)),
        (UploadId("order 4711/front"), Part.ORIGINAL, b"\x89PNG of no pixels"),
    ):
        event = Retained(
            id=id_,
            time=datetime(2026, 1, 1, tzinfo=UTC),
            lane=Lane("shop"),
            account=AccountId("acct-17"),
            part=part,
            grant=GrantId(GRANT),
            mark="0/0",
            position=Position("AAAAAAAAAAAAAAAAAAAAAA", 0, 0),
            uploaded_at=datetime(2026, 1, 1, tzinfo=UTC),
            content_type="image/png",
            data=data,
        )
        yield {
            "name_key": key.hex(),
            **{name: getattr(event, name) for name in ("lane", "account", "grant", "id")},
            "part": part.value,
            "picture": data.hex(),
            "object": str(ObjectNamer(key).name(event, hashlib.sha256(data).digest())),
        }


def main() -> None:
    """Write the file."""
    opening = {each["name"]: each for each in opening_vectors()}
    document = {
        "format": "ESV2",
        "names": list(names()),
        "opens": list(opening.values()),
        "fails": [*failing_vectors(opening["original"]), *failing_epochs(opening["epoch"])],
    }
    TARGET.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

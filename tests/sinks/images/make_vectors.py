"""Generate `sinks/vectors/esv1.json`: `python tests/sinks/images/make_vectors.py`.

The bytes never change: a change of this file's output is a new version of the format.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.sinks.images.envelope import seal
from erasestream.sinks.images.object_names import ObjectNamer
from tests.paths import ROOT

TARGET = ROOT / "sinks" / "vectors" / "esv1.json"
GRANT_KEY = hashlib.sha256(b"grant key").digest()
OTHER_KEY = hashlib.sha256(b"another grant's key").digest()
GRANT = "6f1c2b3a-4d5e-8f60-9a7b-8c9d0e1f2a3b"
OTHER_GRANT = "6f1c2b3a-4d5e-8f60-9a7b-8c9d0e1f2a3c"
OBJECT = f"{'ab' * 32}/{GRANT}/018f3c4e-0000-7000-8000-000000000001.original.{'cd' * 32}"


def opens(name: str, plaintext: bytes, part: str, content_type: str, obj: str) -> dict[str, str]:
    """Return a vector that opens."""
    salt = hashlib.sha256(f"salt {name}".encode()).digest()
    data_key = hashlib.sha256(f"data key {name}".encode()).digest()
    drawn = iter((salt, data_key))
    raw = seal(
        plaintext,
        grant_key=GRANT_KEY,
        grant=GrantId(GRANT),
        part=Part(part),
        content_type=content_type,
        name=obj,
        random=lambda _: next(drawn),
    )
    return {
        "name": name,
        "grant_key": GRANT_KEY.hex(),
        "grant": GRANT,
        "part": part,
        "content_type": content_type,
        "object": obj,
        "salt": salt.hex(),
        "data_key": data_key.hex(),
        "plaintext": plaintext.hex(),
        "sealed": raw.hex(),
    }


def opening_vectors() -> list[dict[str, str]]:
    """Return the vectors that open."""
    return [
        opens("original", b"\x89PNG of no pixels", "original", "image/png", OBJECT),
        opens(
            "cutout",
            bytes(range(256)),
            "cutout",
            "image/webp",
            OBJECT.replace("original", "cutout"),
        ),
        opens("empty", b"", "original", "image/jpeg", OBJECT),
        opens("name in UTF-8", b"x", "original", "image/png", "grün/☃"),
    ]


def uncommitted(base: dict[str, str], commitment_at: int) -> bytes:
    """Return an object that is authentic under the right key, behind another commitment.

    Only the comparison of the commitment refuses it.
    """
    header, commitment = bytes.fromhex(base["sealed"])[:commitment_at], bytes(32)
    info = b"erasestream/v1/body" + hashlib.sha256(header).digest()
    keys = HKDF(algorithm=SHA256(), length=64, salt=bytes.fromhex(base["salt"]), info=info).derive(
        bytes.fromhex(base["data_key"])
    )
    body = AESGCM(keys[:32]).encrypt(bytes(12), b"other", header + commitment)
    return header + commitment + body


def failing_vectors(base: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield changes of a vector that opens, each of which is refused."""
    raw = bytes.fromhex(base["sealed"])
    kind_at, name_at = 22, 22 + 2 + len("image/png")
    wrapped_at = name_at + 2 + len(OBJECT) + 32
    commitment_at, body_at = wrapped_at + 48, wrapped_at + 80
    values = {k: base[k] for k in ("grant_key", "grant", "part", "object")}

    def fails(why: str, sealed: bytes = raw, **expected: str) -> dict[str, Any]:
        return {"why": why, "sealed": sealed.hex()} | values | expected

    def flip(at: int) -> bytes:
        return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]

    name_length = (len(OBJECT) - 1).to_bytes(2, "big")
    yield fails("empty object", b"")
    yield fails("magic", flip(0))
    yield fails("unknown suite", raw[:4] + b"\x02" + raw[5:])
    yield fails("grant in the header changed", flip(5))
    yield fails("part 0", raw[:21] + b"\0" + raw[22:])
    yield fails("part changed to cut-out", raw[:21] + b"\x02" + raw[22:], part="cutout")
    yield fails("content type length beyond its bound", raw[:kind_at] + b"\xff\xff" + raw[24:])
    yield fails("content type changed", raw.replace(b"image/png", b"image/gif", 1))
    yield fails("content type in upper case", raw.replace(b"image/png", b"IMAGE/PNG", 1))
    yield fails("name length off by one", raw[:name_at] + name_length + raw[name_at + 2 :])
    yield fails("salt", flip(wrapped_at - 1))
    yield fails("wrapped data key", flip(wrapped_at))
    yield fails("wrapping tag", flip(commitment_at - 1))
    yield fails("commitment", flip(commitment_at))
    yield fails("authentic body behind another commitment", uncommitted(base, commitment_at))
    yield fails("body", flip(body_at))
    yield fails("body tag", flip(len(raw) - 1))
    yield fails("one byte too few", raw[:-1])
    yield fails("one byte too many", raw + b"\0")
    yield fails("cut within the commitment", raw[: commitment_at + 5])
    yield fails("expected another grant", grant=OTHER_GRANT)
    yield fails("expected another part", part="cutout")
    yield fails("expected another name", object=OBJECT + "0")
    yield fails("another grant's key", grant_key=OTHER_KEY.hex())


def names() -> Iterator[dict[str, str]]:
    """Yield the name of each part of an upload; the cut-out has zero bytes, the last id is text."""
    key = hashlib.sha256(b"name key").digest()
    ours = UploadId("018f3c4e-0000-7000-8000-000000000001")
    for id_, part, data in (
        (ours, Part.ORIGINAL, b"\x89PNG of no pixels"),
        (ours, Part.CUTOUT, bytes(4)),
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
            "object": str(ObjectNamer(key).name(event)),
        }


def main() -> None:
    """Write the file."""
    opening = opening_vectors()
    document = {
        "format": "ESV1",
        "names": list(names()),
        "opens": opening,
        "fails": list(failing_vectors(opening[0])),
    }
    TARGET.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

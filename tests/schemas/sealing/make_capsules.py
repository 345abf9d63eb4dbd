"""Generate `schemas/sealing/vectors/esc1.json`: `python tests/schemas/sealing/make_capsules.py`.

The values in the capsules are those of `esv2.json`.  A capsule has a random key, so that generating
again changes the vectors.
"""

import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.sealing.capsule import seal_capsule
from erasestream.schemas.sealing.envelope import UploadDigest, upload_digest
from erasestream.schemas.sealing.recipients import Epoch
from tests.paths import ROOT
from tests.schemas.sealing.make_vectors import (
    ACCOUNT,
    EPOCH,
    EPOCH_KEY,
    LANE,
    OTHER_EPOCH_KEY,
    OTHER_UPLOAD,
    TARGET,
    UPLOAD,
)

CAPSULES = ROOT / "schemas" / "sealing" / "vectors" / "esc1.json"


def digest(lane: str, account: str, upload: str) -> UploadDigest:
    """Return the digest of an upload."""
    return upload_digest(Lane(lane), AccountId(account), UploadId(upload))


def capsule_vectors(opening: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a capsule that opens, and changes of it that are refused."""
    epoch = Epoch("sink", EPOCH.number)
    public = X25519PrivateKey.from_private_bytes(EPOCH_KEY).public_key()
    images = {"photo": opening["epoch"], "cutout": opening["cutout"]}
    contents = {
        name: (bytes.fromhex(each["data_key"]), bytes.fromhex(each["sealed"]))
        for name, each in images.items()
    }

    def sealed(upload: str = UPLOAD, lane: str = LANE, account: str = ACCOUNT) -> bytes:
        return seal_capsule(digest(lane, account, upload), epoch, public, **contents)

    raw = sealed()
    swapped = {"photo": contents["cutout"], "cutout": contents["photo"]}
    values = {"lane": LANE, "account": ACCOUNT, "upload": UPLOAD}
    values |= {"epoch": epoch.number, "epoch_key": EPOCH_KEY.hex()}
    values |= {name: each["sealed"] for name, each in images.items()}

    def fails(why: str, capsule: bytes = raw, **expected: Any) -> dict[str, Any]:
        return {"why": why, "capsule": capsule.hex()} | values | expected

    def flip(at: int) -> bytes:
        return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]

    keys = {f"{name}_key": each["data_key"] for name, each in images.items()}
    return {
        "opens": [{"capsule": raw.hex()} | values | keys],
        "fails": [
            fails("empty", b""),
            fails("magic", flip(3)),
            fails("length of the purpose", flip(4)),
            fails("purpose", flip(8)),
            fails("another purpose of the same length", raw.replace(b"sink", b"data", 1)),
            fails("epoch in the capsule", flip(16)),
            fails("epoch in the capsule and expected", flip(16), epoch=epoch.number ^ 1),
            fails("encapsulated key", flip(17)),
            fails("encapsulated key of zeros", raw[:17] + bytes(32) + raw[49:]),
            fails("ciphertext", flip(49)),
            fails("tag", flip(192)),
            fails("one byte too few", raw[:-1]),
            fails("one byte too many", raw + b"\0"),
            fails("another upload's capsule", sealed(OTHER_UPLOAD)),
            fails("another lane's capsule", sealed(lane="bulk")),
            fails("another account's capsule", sealed(account="acct-18")),
            fails("expected another epoch", epoch=epoch.number + 1),
            fails("another epoch's key", epoch_key=OTHER_EPOCH_KEY.hex()),
            fails("another photo", photo=opening["original"]["sealed"]),
            fails("another cut-out", cutout=opening["empty"]["sealed"]),
            fails(
                "photo and cut-out swapped",
                seal_capsule(digest(LANE, ACCOUNT, UPLOAD), epoch, public, **swapped),
            ),
        ],
    }


def main() -> None:
    """Write the file."""
    opening = {each["name"]: each for each in json.loads(TARGET.read_text())["opens"]}
    document = {"format": "ESC1", **capsule_vectors(opening)}
    CAPSULES.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

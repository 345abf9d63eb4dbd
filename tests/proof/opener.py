"""Open whatever can be opened: `python -m tests.proof.opener SECRETS COPY...`.

A program of its own, for a thief of copies of every disk, of one or several moments, and of
every secret of the installation as it is now:

    COPY/       any folder with files of brokers and of the bucket, which has the vault as well
    SECRETS/    keyring/ and masters/

It runs nothing of the installation and asks nothing: it uses the sealing library and the files.
Of each image that it finds it prints one line of JSON: where it is, and the SHA-256 of the image,
or none if nothing opens it.
"""

import hashlib
import json
import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from erasestream.schemas.errors import SealBroken
from erasestream.schemas.events.images import Cutout, Part, Retained, Upload
from erasestream.schemas.ids import GrantId, UploadId
from erasestream.schemas.sealing.capsule import epoch_of, open_capsule
from erasestream.schemas.sealing.content_type import is_sealed
from erasestream.schemas.sealing.envelope import (
    Header,
    data_key_of,
    open_with_data_key,
)
from erasestream.schemas.sealing.recipients import (
    Epoch,
    EpochOpener,
    EpochRecipient,
    GrantRecipient,
    Opener,
)
from erasestream.sinks.images.object_names import StoredName
from erasestream.sinks.keys.epoch_masters import WRAP_INFO
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.sinks.keys.master_file import SUFFIX, unwrap_key
from tests.proof.kafka_log import StoredRecord, records_in

KEY_BYTES = 32
OBJECT_MAGIC = b"LBO1"
PARTS = {Upload.type: Part.ORIGINAL, Cutout.type: Part.CUTOUT}


class Image(NamedTuple):
    """An image that was found, with all that belongs to it."""

    place: str
    upload_id: UploadId | None
    """None for an object: its name has another id if the upload's is no UUID."""
    part: Part
    value: bytes
    is_sealed: bool
    capsule: bytes | None = None
    object_name: str = ""

    def describe(self, opened: bytes | None) -> dict[str, Any]:
        """Return the line about this image."""
        return {
            "place": self.place,
            "upload": self.upload_id or StoredName.parse(self.object_name).upload_id,
            "part": self.part,
            "sealed": self.is_sealed,
            "sha256": None if opened is None else hashlib.sha256(opened).hexdigest(),
        }


class Thief:
    """All keys that copies and secrets give."""

    def __init__(self, secrets: Path, objects: dict[str, bytes]) -> None:
        self._epochs: dict[Epoch, EpochOpener] = {}
        self._grants: dict[GrantId, list[bytes]] = {}
        self._data_keys: set[bytes] = set()
        """Those of images that were opened: the same image may be elsewhere."""
        masters = sorted((secrets / "masters").glob(f"*{SUFFIX}"))
        keyring = LocalKeyring(secrets / "keyring")
        for name, raw in objects.items():
            kind, _, rest = name.partition("/")
            if kind == "epochs":
                self._unwrap_epoch(masters, rest, raw)
            elif kind == "keys":
                grant, _, version = rest.partition("/")
                with suppress(SealBroken):
                    key = keyring.unwrap(version, raw, grant.encode())
                    self._grants.setdefault(GrantId(grant), []).append(key)

    def _unwrap_epoch(self, masters: Iterable[Path], name: str, raw: bytes) -> None:
        purpose, _, number = name.partition("/")
        public, wrapped = raw[:KEY_BYTES], raw[KEY_BYTES:]
        for master in masters:
            with suppress(SealBroken):
                key = unwrap_key(master, wrapped, f"{name}\0".encode() + public, info=WRAP_INFO)
                epoch = Epoch(purpose, int(number))
                self._epochs[epoch] = EpochOpener.of(epoch, key)

    def open(self, image: Image) -> bytes | None:
        """Return the image in clear, or None."""
        if not image.is_sealed:
            return image.value
        for data_key in (*self._keys_of(image), *self._data_keys):
            with suppress(SealBroken):
                opened = open_with_data_key(
                    image.value, upload=None, part=image.part, data_key=data_key
                )
                self._data_keys.add(data_key)
                return opened.plaintext
        return None

    def _keys_of(self, image: Image) -> Iterator[bytes]:
        for opener in self._openers(image):
            with suppress(SealBroken):
                yield data_key_of(image.value, upload=None, part=image.part, opener=opener)
        if image.capsule:
            with suppress(SealBroken, KeyError):
                upload = Header.parse(image.value, None, image.part).context.upload
                capsule = open_capsule(image.capsule, upload, self._epochs[epoch_of(image.capsule)])
                yield capsule.data_key_of(image.part, hashlib.sha256(image.value).digest())

    def _openers(self, image: Image) -> Iterator[Opener]:
        with suppress(SealBroken):
            for block in Header.parse(image.value, None, image.part).blocks:
                if block.kind == EpochRecipient.KIND:
                    yield from (o for o in self._epochs.values() if o.identity == block.identity)
        if image.object_name:
            grant = StoredName.parse(image.object_name).grant
            for key in self._grants.get(grant, ()):
                yield GrantRecipient(grant, key, image.object_name)


def objects_in(folder: Path) -> dict[str, bytes]:
    """Return the objects of the buckets in a folder, by their names."""
    found = {}
    for file in sorted(folder.rglob("*=")):
        raw = file.read_bytes()
        if raw.endswith(OBJECT_MAGIC):
            end = len(raw) - 8
            start = end - int.from_bytes(raw[end : end + 4], "big")
            metadata = json.loads(raw[start:end])
            found[metadata["name"]] = raw[: metadata["size"]]
    return found


def images_in(folder: Path, objects: dict[str, bytes]) -> Iterator[Image]:
    """Yield every image in objects and in the brokers' files, deleted and stray ones included."""
    for file in sorted(folder.rglob("*.log*")):
        for record in records_in(file):
            with suppress(ValueError):  # no event: a part or a capsule that is none
                yield from _image(f"{file.relative_to(folder)}@{record.offset}", record)
    for name, value in objects.items():
        with suppress(SealBroken):
            part = StoredName.parse(name).part
            yield Image(f"object {name}", None, part, value, is_sealed=True, object_name=name)


def _image(place: str, record: StoredRecord) -> Iterator[Image]:
    headers = record.headers
    kind = headers.get("ce_type", "")
    part = Part(headers["ce_part"]) if kind == Retained.type else PARTS.get(kind)
    if part is not None and {"ce_id", "content-type"} <= headers.keys():  # else refused as no event
        text = headers.get("ce_capsule")
        yield Image(
            place,
            UploadId(headers["ce_id"]),
            part,
            record.value,
            is_sealed(headers["content-type"]),
            urlsafe_b64decode(text + "==") if text else None,
        )


def main() -> None:
    """Print a line for each image."""
    secrets, *copies = map(Path, sys.argv[1:])
    found = [(copy, objects_in(copy)) for copy in copies]
    thief = Thief(secrets, {name: raw for _, objects in found for name, raw in objects.items()})
    images = [image for copy, objects in found for image in images_in(copy, objects)]
    # Objects first: a data key that opens one may open a broker's copy of the same image.
    for image in sorted(images, key=lambda each: not each.object_name):
        sys.stdout.write(f"{json.dumps(image.describe(thief.open(image)))}\n")


if __name__ == "__main__":
    main()

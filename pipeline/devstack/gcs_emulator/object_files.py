"""Objects on a local disk: created completely or not at all, by exactly one of their creators.

* An object is one file: its bytes, then its metadata as JSON, the JSON's length, a magic.
* Bytes are written to `incoming/`, flushed to the disk, and published by a hard link under the
  final name, which the file system permits to exactly one creator.  Incomplete uploads are
  deleted, at the latest when the folder is opened again.
* Names cannot leave the folder: they are percent-encoded, then cut into path segments whose
  suffixes no encoded name contains.
* The sorted names are cached in memory; the files are authoritative and are read at the start.

Thread-safe.  One process owns the folder.
"""

import base64
import bisect
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import google_crc32c

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import AlreadyExists, InvalidInput, NotFound, Refused

MAGIC = b"LBO1"
SEGMENT = 200  # characters; a file's name may have 255 bytes
MAX_NAME_BYTES = 1024
MAX_OBJECT_BYTES = 100_000_000
"""Above every sealed object; a longer upload is refused."""

CHUNK_BYTES = 1 << 20


class ObjectMetadata(NamedTuple):
    """Metadata of an object.  Checksums are base64, as in the JSON API."""

    name: str
    content_type: str
    size: int
    crc32c: str
    md5: str
    generation: int
    created: str


class Preconditions(NamedTuple):
    """Conditions of a change.  Generation None: any; 0: the object must not exist."""

    generation: int | None = None
    may_overwrite: bool = False


class PendingUpload:
    """An upload in progress: a file that is not visible yet.  Must be closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size: int = 0
        self._file = path.open("xb")
        self._crc32c = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self._crc32c = google_crc32c.extend(self._crc32c, data)
        self._md5.update(data)
        self.size += len(data)

    def checksums(self) -> dict[str, str]:
        """Return the checksums so far, in base64, by the names of the JSON API."""
        digests = {"crc32c": self._crc32c.to_bytes(4, "big"), "md5Hash": self._md5.digest()}
        return {kind: base64.b64encode(raw).decode() for kind, raw in digests.items()}

    def finish(self, metadata: ObjectMetadata) -> None:
        """Append the metadata and flush everything to the disk."""
        trailer = json.dumps(metadata._asdict()).encode()
        self._file.write(trailer + len(trailer).to_bytes(4, "big") + MAGIC)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Delete the file; a published object has another name and stays."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class ObjectFiles:
    """The objects of one bucket, as files in a folder."""

    def __init__(self, directory: Path, *, now: WallClock) -> None:
        """Open a folder, deleting incomplete uploads."""
        self._objects = directory / "objects"
        self._incoming = directory / "incoming"
        for path in (self._objects, self._incoming):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._incoming.iterdir():
            leftover.unlink()
        self._now = now
        self._lock = threading.Lock()
        self._counter = 0
        found = (_metadata(path) for path in self._objects.rglob("*=") if path.is_file())
        self._index = {metadata.name: metadata for metadata in found}
        self._names = sorted(self._index)
        self._generation = max((m.generation for m in self._index.values()), default=0)

    def begin_upload(self) -> PendingUpload:
        """Return a new upload."""
        with self._lock:
            self._counter += 1
            return PendingUpload(self._incoming / f"{os.getpid()}-{self._counter}")

    def publish(
        self, upload: PendingUpload, name: str, content_type: str, conditions: Preconditions
    ) -> ObjectMetadata:
        """Publish an upload as the object of this name.

        Raises `AlreadyExists` if the precondition does not hold, `Refused` if there is an
        object that may not be overwritten.  Blocks until the object is on the disk.
        """
        checksums = upload.checksums()
        with self._lock:
            self._check(name, conditions)
            self._generation = generation = self._generation + 1
        metadata = ObjectMetadata(
            name,
            content_type,
            upload.size,
            checksums["crc32c"],
            checksums["md5Hash"],
            generation,
            _rfc3339(self._now()),
        )
        upload.finish(metadata)
        target = _path_in(self._objects, name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            exists = self._check(name, conditions)
            if exists:
                upload.path.replace(target)
            else:
                _link(upload.path, target)
                bisect.insort(self._names, name)
            self._index[name] = metadata
        _flush(target.parent)
        return metadata

    def find(self, name: str) -> ObjectMetadata | None:
        """Return an object's metadata, if it exists."""
        return self._index.get(name)

    def get(self, name: str) -> ObjectMetadata:
        """Return an object's metadata.  Raises `NotFound`."""
        metadata = self.find(name)
        if metadata is None:
            raise NotFound
        return metadata

    def open(self, name: str) -> tuple[ObjectMetadata, BinaryIO]:
        """Open an object's file, at its first byte; the object ends after `size` bytes."""
        try:
            file = _path_in(self._objects, name).open("rb")
        except FileNotFoundError:
            raise NotFound from None
        return _trailer(file), file

    def delete(self, name: str, generation: int | None) -> None:
        """Delete an object.  Raises `NotFound`, and `AlreadyExists` for another generation."""
        with self._lock:
            if generation not in (None, self.get(name).generation):
                raise AlreadyExists
            path = _path_in(self._objects, name)
            path.unlink()
            del self._index[name]
            del self._names[bisect.bisect_left(self._names, name)]
        _flush(path.parent)

    def names(self, prefix: str, after: str) -> Iterator[str]:
        """Yield names with the prefix that sort after `after`; each is current when yielded."""
        current = max(prefix, after)
        inclusive = current == prefix and after < prefix
        while True:
            with self._lock:
                side = bisect.bisect_left if inclusive else bisect.bisect_right
                at = side(self._names, current)
                if at == len(self._names) or not self._names[at].startswith(prefix):
                    return
                current, inclusive = self._names[at], False
            yield current

    def _check(self, name: str, conditions: Preconditions) -> bool:
        """Return whether the object exists.  Raises if the preconditions do not hold."""
        existing = self._index.get(name)
        if conditions.generation not in (None, existing.generation if existing else 0):
            raise AlreadyExists
        if existing and not conditions.may_overwrite:
            raise Refused
        return existing is not None


def _path_in(folder: Path, name: str) -> Path:
    # JSON can hold half a character, which has no UTF-8.
    size = len(name.encode(errors="ignore"))
    if not 0 < size <= MAX_NAME_BYTES or re.search("[\n\r\ud800-\udfff]", name):
        raise InvalidInput("object name")
    encoded = quote(name, safe="")
    cuts = [encoded[at : at + SEGMENT] for at in range(0, len(encoded), SEGMENT)]
    folders = (f"{segment}+" for segment in cuts[:-1])
    return folder.joinpath(*folders, f"{cuts[-1]}=")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise AlreadyExists from None


def _flush(directory: Path) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _metadata(path: Path) -> ObjectMetadata:
    with path.open("rb") as file:
        return _trailer(file)


def _trailer(file: BinaryIO) -> ObjectMetadata:
    """Read the metadata at the end of a file; leave it at its first byte."""
    end = file.seek(-8, os.SEEK_END)
    tail = file.read(8)
    if tail[4:] != MAGIC:
        raise Refused("the bucket's folder holds a file that is not an object")
    file.seek(end - int.from_bytes(tail[:4], "big"))
    metadata = ObjectMetadata(**json.loads(file.read(int.from_bytes(tail[:4], "big"))))
    file.seek(0)
    return metadata

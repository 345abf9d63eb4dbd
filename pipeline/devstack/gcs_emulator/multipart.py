"""Bytes of an upload, taken apart as they arrive: multipart/related, and ranges of a session.

No I/O of its own.  An upload is an upload only if it ended as it said it would.
"""

import json
import re
from typing import NamedTuple

from erasestream.schemas.errors import InvalidInput

MAX_PRELUDE_BYTES = 65_536
"""Everything before the object's first byte: two part headers and the JSON between them."""

CHECKSUMS = ("crc32c", "md5Hash")
METADATA_MEMBERS = {"name", "contentType", *CHECKSUMS}
RANGE_PATTERN = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Declared(NamedTuple):
    """What an upload says about its object."""

    name: str
    content_type: str
    checksums: dict[str, str]


def declared(members: object, content_type: str | None, name: str | None) -> Declared:
    """The metadata of an upload.  Raises `InvalidInput` for members that this bucket lacks.

    An ACL in particular: with uniform access there is none on an object.
    """
    if not isinstance(members, dict) or not set(members) <= METADATA_MEMBERS:
        raise InvalidInput("metadata member that this bucket does not take")
    if not all(isinstance(value, str) for value in members.values()):
        raise InvalidInput("metadata value")
    object_name = members.get("name") or name
    if not object_name:
        raise InvalidInput("object name")
    kind = members.get("contentType") or content_type or "application/octet-stream"
    return Declared(object_name, kind, {c: members[c] for c in CHECKSUMS if c in members})


class RelatedParser:
    """An incremental reader of `multipart/related` with a JSON part and a media part."""

    def __init__(self, content_type_header: str) -> None:
        match = re.fullmatch(
            r'multipart/related;\s*boundary="?([^";\s]{1,70})"?', content_type_header.strip()
        )
        if match is None:
            raise InvalidInput("content-type of a multipart upload")
        self._delimiter = b"--" + match[1].encode()
        self._closing = b"\r\n" + self._delimiter + b"--"
        self._buffer = b""
        self._in_media = False
        self.members: object = None
        self.content_type: str | None = None

    @property
    def has_metadata(self) -> bool:
        """Whether everything before the media has been read."""
        return self._in_media

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those that surely belong to the object."""
        self._buffer += data
        if not self._in_media and not self._prelude():
            return b""
        ready = len(self._buffer) - len(self._closing) - 2
        media, self._buffer = self._buffer[: max(ready, 0)], self._buffer[max(ready, 0) :]
        return media

    def finish(self) -> bytes:
        """The rest of the object.  Raises `InvalidInput` if the body did not end as it must."""
        tail = self._buffer.removesuffix(b"\r\n")
        if not self._in_media or not tail.endswith(self._closing):
            raise InvalidInput("the upload was cut off")
        return tail.removesuffix(self._closing)

    def _prelude(self) -> bool:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        document, next_part, rest = rest.partition(b"\r\n" + self._delimiter + b"\r\n")
        headers, end, media = rest.partition(b"\r\n\r\n")
        if not (found and next_part and end):
            if len(self._buffer) > MAX_PRELUDE_BYTES:
                raise InvalidInput("no metadata at the beginning of the upload")
            return False
        if not head.startswith(self._delimiter + b"\r\n"):
            raise InvalidInput("multipart delimiter")
        try:
            self.members = json.loads(document)
        except ValueError:
            raise InvalidInput("metadata is not JSON") from None
        if match := re.search(rb"(?im)^content-type:[ \t]*([^\r\n]+)", headers):
            self.content_type = match[1].decode("latin-1").strip()
        self._in_media, self._buffer = True, media
        return True


class ContentRange(NamedTuple):
    """A `content-range` header; None where it has a star."""

    start: int | None
    total: int | None

    @classmethod
    def parse(cls, header: str) -> "ContentRange":
        """Raises `InvalidInput`."""
        match = RANGE_PATTERN.fullmatch(header)
        if match is None:
            raise InvalidInput("content-range")
        start, total = match[1], match[3]
        return cls(int(start) if start else None, None if total == "*" else int(total))

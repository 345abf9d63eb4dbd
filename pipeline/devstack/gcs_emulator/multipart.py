"""Incremental parsers of an upload: multipart (metadata, then bytes) and media (bytes only).

No I/O.  A multipart upload is complete only if its closing delimiter arrived.
"""

import json
import re
from typing import NamedTuple

from erasestream.schemas.errors import InvalidInput

MAX_PRELUDE_BYTES = 65_536
"""Everything before the object's first byte: two part headers and the JSON between them."""

CONTENT_TYPE = re.compile(r"[!-~]+(?: [!-~]+)*")
"""Printable ASCII: it is sent back as a header."""
CHECKSUMS = ("crc32c", "md5Hash")
METADATA_MEMBERS = {"name", "contentType", *CHECKSUMS}


class UploadMetadata(NamedTuple):
    """Metadata that an upload declares for its object."""

    name: str
    content_type: str
    checksums: dict[str, str]


def parse_metadata(members: object, content_type: str | None, name: str | None) -> UploadMetadata:
    """Return the metadata of an upload.

    Raises `InvalidInput` for members that this bucket does not support.  An ACL in particular:
    with uniform access, objects have none.
    """
    if not isinstance(members, dict) or not set(members) <= METADATA_MEMBERS:
        raise InvalidInput("metadata member that this bucket does not support")
    if not all(isinstance(value, str) for value in members.values()):
        raise InvalidInput("metadata value")
    object_name = members.get("name") or name
    if not object_name:
        raise InvalidInput("object name")
    kind = members.get("contentType") or content_type or "application/octet-stream"
    if CONTENT_TYPE.fullmatch(kind) is None:
        raise InvalidInput("content type")
    return UploadMetadata(object_name, kind, {c: members[c] for c in CHECKSUMS if c in members})


class MediaParser:
    """Parser of an upload that is the object's bytes; its name is a parameter."""

    has_metadata = True

    def __init__(self, content_type_header: str) -> None:
        self._content_type = content_type_header

    def metadata(self, name: str | None) -> UploadMetadata:
        """Return the metadata.  Raises `InvalidInput` without a name."""
        return parse_metadata({}, self._content_type, name)

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those of the object."""
        return data

    def finish(self) -> bytes:
        """Return the rest of the object: HTTP itself marks its end."""
        return b""


class MultipartParser:
    """Incremental parser of `multipart/related` with a JSON part and a media part."""

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
        self._members: object = None
        self._content_type: str | None = None

    @property
    def has_metadata(self) -> bool:
        """Whether everything before the media was parsed."""
        return self._in_media

    def metadata(self, name: str | None) -> UploadMetadata:
        """Return the metadata; `name` is used if it has none.  Raises `InvalidInput`."""
        return parse_metadata(self._members, self._content_type, name)

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those that certainly belong to the object."""
        self._buffer += data
        if not self._in_media and not self._parse_prelude():
            return b""
        ready = len(self._buffer) - len(self._closing) - 2
        media, self._buffer = self._buffer[: max(ready, 0)], self._buffer[max(ready, 0) :]
        return media

    def finish(self) -> bytes:
        """Return the rest of the object.  Raises `InvalidInput` without a closing delimiter."""
        tail = self._buffer.removesuffix(b"\r\n")
        if not self._in_media or not tail.endswith(self._closing):
            raise InvalidInput("the upload was cut off")
        return tail.removesuffix(self._closing)

    def _parse_prelude(self) -> bool:
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
            self._members = json.loads(document)
        except (ValueError, RecursionError):
            raise InvalidInput("metadata is not JSON") from None
        if match := re.search(rb"(?im)^content-type:[ \t]*([^\r\n]+)", headers):
            self._content_type = match[1].decode("latin-1").strip()
        self._in_media, self._buffer = True, media
        return True

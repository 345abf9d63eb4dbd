"""Read the fields of a request straight into bounded memory, never into a file.

* The length is refused as soon as it is known: from `Content-Length`, or once more has arrived.
* Names of fields are case-insensitive; a field that comes twice is refused.
* A field of text has at most `MAX_TEXT_BYTES`; only the fields of images are larger.
* JSON is counted before it is read: its values take up to 30 times the memory of their text.
* Long texts are ASCII, as Base64 is: one other character makes four bytes of each.
* A body takes its length while it arrives.  It is decoded in one step of the event loop, so that
  one at a time takes more: at most `decoding_bytes`.
* The whole body arrives within `BODY_TIMEOUT_S`, so that a slow sender holds no memory for long.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)
from starlette.requests import Request

from erasestream.pipeline.gateway.problems import HttpCode, Problem, of_failure, problem
from erasestream.schemas.error_codes import SENTENCES, Code

MAX_TEXT_BYTES = 8192
MAX_FIELDS = 64
MAX_JSON_MARKS = 16 * MAX_FIELDS
"""Commas and brackets; an object of `MAX_FIELDS` has far fewer, and Base64 has none."""
FRAMING_BYTES = MAX_FIELDS * 1024
"""Of the body besides its image: the names of fields, options, boundaries."""
_PIECE_BYTES = 8192
BODY_TIMEOUT_S = 60.0
DRAINED = 4
"""A body up to this many times the limit is read and dropped, so that the sender gets its answer;
the connection of a longer one is closed."""


class BodyKind(Enum):
    """How the fields were sent."""

    MULTIPART = auto()
    JSON = auto()
    FORM = auto()


@dataclass(frozen=True, kw_only=True)
class Body:
    """The fields by name, in lower case: text or JSON values, and the bytes of uploaded files."""

    kind: BodyKind
    values: Mapping[str, object]
    files: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class BodyRules:
    """Rules of an adapter: the largest image, and the fields of images (files or Base64)."""

    max_image_bytes: int
    file_fields: Collection[str]
    base64_fields: Collection[str]

    @property
    def max_bytes(self) -> int:
        """Largest body: an image in Base64, and all else."""
        return (self.max_image_bytes + 2) // 3 * 4 + FRAMING_BYTES

    @property
    def decoding_bytes(self) -> int:
        """Memory that decoding the largest body takes besides the body."""
        return 2 * self.max_bytes


def declared_length(request: Request) -> int | None:
    """Return the length that the request declares, None if it is chunked."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() else None


def memory_for(request: Request, rules: BodyRules) -> int:
    """Return the memory that this request takes while it arrives.  Raises `Problem` (too_large)."""
    length = declared_length(request)
    if length is None:
        return rules.max_bytes
    if length > rules.max_bytes:
        raise _too_large(rules, close=length > DRAINED * rules.max_bytes)
    return length


async def read_body(request: Request, rules: BodyRules) -> Body:
    """Return the fields.

    Raises `Problem` (too_large, unsupported_body, malformed_body, body_timeout).
    """
    content_type, parameters = parse_options_header(request.headers.get("content-type", ""))
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HttpCode.UNSUPPORTED_BODY)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            match content_type.lower():
                case "multipart/form-data":
                    chunks = _chunks(request, rules)
                    return await _multipart(chunks, rules, parameters.get("boundary", ""))
                case "application/json":
                    return _json(await _whole(request, rules))
                case "application/x-www-form-urlencoded":
                    return _form(await _whole(request, rules))
    except TimeoutError:
        raise _closing(problem(HTTPStatus.REQUEST_TIMEOUT, HttpCode.BODY_TIMEOUT)) from None
    raise problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HttpCode.UNSUPPORTED_BODY)


async def _whole(request: Request, rules: BodyRules) -> bytearray:
    """Return the body in one buffer: chunks may be so small that each takes more than it has."""
    body = bytearray()
    async for chunk in _chunks(request, rules):
        body += chunk
    return body


async def _chunks(request: Request, rules: BodyRules) -> AsyncIterator[bytes]:
    """Yield the body; one that is too large is read on and dropped, so that its sender listens."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= rules.max_bytes:
            yield chunk
        elif size > DRAINED * rules.max_bytes:
            raise _too_large(rules, close=True)
    if size > rules.max_bytes:
        raise _too_large(rules, close=False)


def _json(raw: bytearray) -> Body:
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_JSON_MARKS:
        raise _malformed("too many values")
    has_wide = not raw.isascii() or raw.count(b"\\u") != raw.count(b"\\u00")
    if has_wide and len(raw) > FRAMING_BYTES:
        raise _malformed("a long text that is not ASCII")
    try:
        read = json.loads(raw.decode())
    except (ValueError, RecursionError):
        raise _malformed("not JSON") from None
    if not isinstance(read, dict):
        raise _malformed("not a JSON object")
    return Body(kind=BodyKind.JSON, values=_named(list(read.items())), files={})


def _form(raw: bytearray) -> Body:
    if raw.count(b"&") >= MAX_FIELDS:
        raise _malformed("too many fields")
    pairs = list[tuple[str, object]]()
    begin = 0
    while begin < len(raw):
        end = _found(raw, b"&", begin, len(raw))
        equals = _found(raw, b"=", begin, end)
        if begin < end:
            name = _text(_unquoted(raw, begin, equals))
            pairs.append((name, _text(_unquoted(raw, equals + 1, end))))
        begin = end + 1
    return Body(kind=BodyKind.FORM, values=_named(pairs), files={})


def _found(raw: bytearray, mark: bytes, begin: int, end: int) -> int:
    at = raw.find(mark, begin, end)
    return end if at < 0 else at


def _unquoted(raw: bytearray, begin: int, end: int) -> bytes:
    """Return a part of a form without its escapes; by pieces, since each escape takes 40 bytes."""
    pieces = []
    while begin < end:
        to = min(begin + _PIECE_BYTES, end)
        escape = raw.rfind(b"%", to - 2, to) if to < end else -1
        to = to if escape < 0 else escape  # it may go on behind the piece
        pieces.append(unquote_to_bytes(bytes(raw[begin:to]).replace(b"+", b" ")))
        begin = to
    return b"".join(pieces)


def _text(raw: bytes) -> str:
    """Return a field of text.  Raises `Problem` if it is not UTF-8, or long and not ASCII."""
    if len(raw) > MAX_TEXT_BYTES and not raw.isascii():
        raise _malformed("a long text that is not ASCII")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _malformed("a field that is not UTF-8") from None


def _named(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the values by name in lower case; null is as if it were absent."""
    values: dict[str, object] = {}
    for name, value in pairs:
        if name.lower() in values:
            raise _malformed("a field that comes twice")
        values[name.lower()] = value
    return {name: value for name, value in values.items() if value is not None}


async def _multipart(chunks: AsyncIterator[bytes], rules: BodyRules, boundary: str) -> Body:
    try:
        return await _parts_in(chunks, rules, boundary)
    except Problem:
        async for _ in chunks:  # as one that is too large: the connection of an endless one closes
            pass
        raise


async def _parts_in(chunks: AsyncIterator[bytes], rules: BodyRules, boundary: str) -> Body:
    parts = _Parts(rules)
    try:
        with PushMultipartParser(boundary, max_segment_count=MAX_FIELDS) as parser:
            async for chunk in chunks:
                if not chunk or parser.closed:  # what follows the last boundary is ignored
                    continue
                for event in parser.parse(chunk):
                    parts.take(event)
    except ParserLimitReached:
        raise _malformed("too many fields") from None
    except MultipartError:
        raise _malformed("not multipart/form-data") from None
    return parts.body()


class _Parts:
    """Collects the parts of a multipart body."""

    def __init__(self, rules: BodyRules) -> None:
        self._rules = rules
        self._data: dict[str, bytes] = {}
        self._name = ""
        self._value = bytearray()
        self._left = 0

    def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """Take the begin of a part, a piece of it, or its end."""
        match event:
            case None:
                self._data[self._name] = bytes(self._value)
                self._value = bytearray()
            case MultipartSegment():
                self._name = (event.name or "").lower()
                if self._name in self._data:
                    raise _malformed("a field that comes twice")
                self._left = self._most(self._name)
            case piece:
                self._left -= len(piece)
                if self._left < 0:
                    raise self._refusal()
                self._value += piece

    def _most(self, name: str) -> int:
        if name in self._rules.file_fields:
            return self._rules.max_image_bytes
        return self._rules.max_bytes if name in self._rules.base64_fields else MAX_TEXT_BYTES

    def _refusal(self) -> Problem:
        if self._name in self._rules.file_fields or self._name in self._rules.base64_fields:
            return _too_large(self._rules, close=False)
        return _malformed("a field that is too long")

    def body(self) -> Body:
        """Return all fields."""
        files = {name: self._data[name] for name in self._data if name in self._rules.file_fields}
        values = {name: _text(data) for name, data in self._data.items() if name not in files}
        return Body(kind=BodyKind.MULTIPART, values=values, files=files)


def _malformed(detail: str) -> Problem:
    return problem(HTTPStatus.BAD_REQUEST, HttpCode.MALFORMED_BODY, detail)


def _too_large(rules: BodyRules, *, close: bool) -> Problem:
    sentence = f"{SENTENCES[Code.TOO_LARGE]} (at most {rules.max_image_bytes / 1e6:g} MB)"
    refusal = of_failure(Code.TOO_LARGE, sentence)
    return _closing(refusal) if close else refusal


def _closing(refusal: Problem) -> Problem:
    refusal.headers = {**refusal.headers, "Connection": "close"}
    return refusal

"""Events on the wire: CloudEvents 1.0, Kafka protocol binding, binary content mode.

An attribute `name` is the header `ce_name`, the content type `content-type`; the value is the
image's own bytes, or JSON for events without an image.  Images are encoded and decoded nowhere
else.

Source: CloudEvents 1.0.2 and its Kafka Protocol Binding, section 3.2.  Attribute names are
lower-case letters and digits, so underscores of field names are dropped.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.events.base import Event, as_attributes
from erasestream.schemas.events.consent import ConsentDecision
from erasestream.schemas.events.credentials import (
    CredentialsClosed,
    CredentialSet,
    CredentialUsed,
)
from erasestream.schemas.events.image_index import ImageMarked, ResultIndexed
from erasestream.schemas.events.images import (
    MAX_CUTOUT_BYTES,
    MAX_UPLOAD_BYTES,
    Cutout,
    Failure,
    Retained,
    Upload,
)
from erasestream.schemas.events.installation import InstallationMarked
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    ErasureEntry,
    ErasureProgress,
    Finding,
    GrantErased,
    KeyDestroyed,
    MasterDestroyed,
    ReceiptIssued,
    Repair,
    UploadErased,
    UploadErasureRequested,
    UploadHeld,
)
from erasestream.schemas.sealing.content_type import SEALED_OVERHEAD_BYTES, is_sealed

E = TypeVar("E", bound=Event)

Headers = Iterable[tuple[str, bytes | None]]

MAX_HEADER_BYTES = 16_384
"""Largest total of the names and values of a record's headers, in bytes."""

MAX_VALUE_BYTES: Mapping[type[Event], int] = {
    Upload: MAX_UPLOAD_BYTES,
    Cutout: MAX_CUTOUT_BYTES,
    Retained: MAX_CUTOUT_BYTES,
}
MAX_JSON_BYTES = 16_384
"""Largest value of an event without an image, in bytes."""

EVENTS: tuple[type[Event], ...] = (
    Upload,
    Cutout,
    Failure,
    Retained,
    ConsentDecision,
    DecisionEntry,
    ErasureEntry,
    Finding,
    Repair,
    KeyDestroyed,
    ErasureProgress,
    GrantErased,
    MasterDestroyed,
    UploadErasureRequested,
    UploadErased,
    UploadHeld,
    ReceiptIssued,
    InstallationMarked,
    CredentialSet,
    CredentialUsed,
    ResultIndexed,
    ImageMarked,
    CredentialsClosed,
)
_BY_TYPE: Mapping[str, type[Event]] = {event.type: event for event in EVENTS}
JSON = "application/json"


class Wire(NamedTuple):
    """Headers and value of a record."""

    headers: list[tuple[str, bytes]]
    value: bytes


def max_value_bytes(event: type[Event], content_type: str = "") -> int:
    """Return the largest value of a record of this event, in bytes: of an image that is not sealed.

    With the content type of sealed images, that of one of these.
    """
    largest = MAX_VALUE_BYTES.get(event, MAX_JSON_BYTES)
    return largest + SEALED_OVERHEAD_BYTES if is_sealed(content_type) else largest


def to_wire(event: Event, *, source: str) -> Wire:
    """Encode an event; `source` identifies the writer (CloudEvents `source`, a URI path).

    Raises `InvalidEvent` (too_large, result_too_large) above the size limit of the event.
    """
    attributes = as_attributes(event)
    content_type = attributes.pop("content_type", JSON)
    names = _headers_of(type(event))
    headers = [
        *_constant_headers(type(event), source),
        *((names[field], str(value).encode()) for field, value in attributes.items()),
        ("content-type", content_type.encode()),
    ]
    value = _value(event)
    if len(value) > max_value_bytes(type(event), content_type):
        raise InvalidEvent(_at_most(type(event)), code=_oversize(type(event)))
    return Wire(headers, value)


@lru_cache(maxsize=64)  # a process writes few types for few lanes
def _constant_headers(event: type[Event], source: str) -> tuple[tuple[str, bytes], ...]:
    attributes = {"ce_specversion": "1.0", "ce_type": event.type, "ce_source": source}
    return tuple((name, value.encode()) for name, value in attributes.items())


def _value(event: Event) -> bytes:
    if event.body is None:
        data: bytes = getattr(event, "data")  # noqa: B009 (only image events have the field)
        return data
    return event.model_dump_json(include=set(event.body), exclude_none=True).encode()


def _oversize(event: type[Event]) -> Code:
    if event is Upload:
        return Code.TOO_LARGE
    return Code.RESULT_TOO_LARGE if event in MAX_VALUE_BYTES else Code.INVALID_EVENT


def _at_most(event: type[Event]) -> str:
    return f"at most {max_value_bytes(event) / 1e6:g} MB"


def attributes_of(headers: Headers | None) -> dict[str, Any]:
    """Return the attributes of our events as text, by field name.

    Attributes without a field keep their header's name: `{"ce_type": ..., "id": ...}`.  Of
    several headers of one name the first counts, so that headers appended later change nothing.
    Foreign headers count towards the size only, and need not be UTF-8.

    Raises `InvalidEvent`: one of our headers is not UTF-8, or the headers are too large.
    """
    attributes: dict[str, Any] = {}
    size = 0
    for name, raw in headers or ():
        value = raw or b""
        field = _FIELDS.get(name)
        if field is None:
            size += len(name.encode(errors="surrogatepass")) + len(value)
            continue
        size += len(name) + len(value)
        if field not in attributes:
            try:
                attributes[field] = value.decode()
            except UnicodeDecodeError:
                raise InvalidEvent(f"{name} is not UTF-8") from None
    if size > MAX_HEADER_BYTES:
        raise InvalidEvent(f"headers above {MAX_HEADER_BYTES} bytes")
    return attributes


def type_of(headers: Headers | None) -> type[Event]:
    """Return the event class of a record.

    Raises `InvalidEvent`: unsupported_version for another major version of a known event,
    otherwise invalid_event.
    """
    return _type_named(attributes_of(headers).get("ce_type", ""))


def _type_named(name: str) -> type[Event]:
    if (event := _BY_TYPE.get(name)) is not None:
        return event
    stem, _, major = name.rpartition(".v")
    is_version = re.fullmatch(r"[1-9][0-9]*", major)
    known = is_version and any(event.type.rpartition(".v")[0] == stem for event in EVENTS)
    raise InvalidEvent("ce_type", code=Code.UNSUPPORTED_VERSION if known else Code.INVALID_EVENT)


def from_wire(event: type[E], headers: Headers | None, value: bytes | None) -> E:
    """Decode a record of this event.

    Raises `InvalidEvent`: unsupported_version for another major version of the event,
    too_large above its size limit, invalid_account, invalid_options, otherwise invalid_event.
    The error names the headers, or members of the body, that are missing and those that are
    malformed, and never quotes a value.
    """
    return one_from_wire((event,), headers, value)


def one_from_wire(events: tuple[type[E], ...], headers: Headers | None, value: bytes | None) -> E:
    """Decode a record of any of these events.  Raises the errors of `from_wire`."""
    members = attributes_of(headers)
    if "ce_type" not in members:
        raise InvalidEvent(_missing(events[0], members))
    event = _type_named(members["ce_type"])
    if event not in events:
        raise InvalidEvent("ce_type")
    if "ce_specversion" not in members:
        raise InvalidEvent(_missing(event, members))
    if members.get("ce_specversion") != "1.0":
        raise InvalidEvent("ce_specversion", code=Code.UNSUPPORTED_VERSION)
    value = value or b""
    content_type = members.get("content_type", "")
    if len(value) > max_value_bytes(event, content_type):
        raise InvalidEvent(_at_most(event), code=_oversize(event))
    if event.body is None:
        members["data"] = value
    else:
        members = {name: members[name] for name in members.keys() - event.body}
        members |= _body(event.body, value)
    try:
        return event.model_validate(members)
    except ValidationError as error:
        raise _invalid(event, members, error) from None
    except ValueError:  # older releases of pydantic: a time in the year 0
        raise InvalidEvent(event.type) from None


def required_headers(event: type[Event]) -> list[str]:
    """Return the headers without which an event is refused."""
    names = _headers_of(event).items()
    required = [name for field, name in names if event.model_fields[field].is_required()]
    return ["ce_specversion", "ce_type", *required]


def _missing(event: type[Event], members: Mapping[str, Any]) -> str:
    """Name the required headers that are missing; empty if none is."""
    missing = [name for name in required_headers(event) if _FIELDS[name] not in members]
    return f"missing: {', '.join(missing)}" if missing else ""


@cache
def _headers_of(event: type[Event]) -> Mapping[str, str]:
    """Return the header of each field that is an attribute of the event."""
    body = event.body or ("data",)
    return {field: header_of(field) for field in event.model_fields if field not in body}


def header_of(field: str) -> str:
    """Return the header of a field."""
    return "content-type" if field == "content_type" else f"ce_{field.replace('_', '')}"


_FIELDS: Mapping[str, str] = {name: name for name in ("ce_specversion", "ce_type", "ce_source")} | {
    name: field for event in EVENTS for field, name in _headers_of(event).items()
}
"""Fields of our events by header.  Writers may add other headers."""


def _body(fields: Iterable[str], value: bytes) -> dict[str, object]:
    try:
        body = json.loads(value.decode())  # of bytes, json accepts UTF-16 and UTF-32 as well
    except (ValueError, RecursionError):
        raise InvalidEvent("the value is not JSON") from None
    if not isinstance(body, dict):
        raise InvalidEvent("the value is not a JSON object")
    return {name: body[name] for name in fields if name in body}


def _invalid(
    event: type[Event], members: Mapping[str, Any], error: ValidationError
) -> InvalidEvent:
    fields = sorted({str(e["loc"][0]) if e["loc"] else "account" for e in error.errors()})
    codes = {"account": Code.INVALID_ACCOUNT, "options": Code.INVALID_OPTIONS}
    code = next((codes[f] for f in fields if f in codes), Code.INVALID_EVENT)
    headers = _headers_of(event)
    malformed = [headers.get(f, f) for f in fields if f in members or f not in headers]
    parts = (_missing(event, members), ", ".join(malformed))
    return InvalidEvent("; ".join(filter(None, parts)), code=code)

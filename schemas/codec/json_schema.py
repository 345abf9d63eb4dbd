"""JSON Schemas of the events, for writers and readers without this library.

One schema per event describes the record on the wire: `headers` (text) and `value`, which is a
JSON object or the image's own bytes.  The draft is 2020-12.
"""

from inspect import cleandoc
from typing import Any

from erasestream.schemas.codec.cloudevents import (
    EVENTS,
    JSON,
    MAX_HEADER_BYTES,
    header_of,
    max_value_bytes,
)
from erasestream.schemas.events.base import CONTENT_TYPE_TEXT_PATTERN, Event
from erasestream.schemas.events.images import Upload
from erasestream.schemas.ids import INVALID_ACCOUNT
from erasestream.schemas.options import CutoutOptions
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE

DRAFT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def json_schemas() -> dict[str, Schema]:
    """Return a schema for each event, by type, and one for the options of an upload."""
    schemas = {event.type: _record(event) for event in EVENTS}
    options = CutoutOptions.model_json_schema()
    return schemas | {"options": {"$schema": DRAFT, **options}}


def _record(event: type[Event]) -> Schema:
    members = event.model_json_schema(mode="serialization")
    return {
        "$schema": DRAFT,
        "title": event.type,
        "description": cleandoc(event.__doc__ or ""),
        "type": "object",
        "properties": {"headers": _headers(event, members), "value": _value(event, members)},
        "required": ["headers", "value"],
        **({"$defs": members["$defs"]} if "$defs" in members and event.body is not None else {}),
        "x-max-value-bytes": _max_value_bytes(event),
        "x-max-header-bytes": MAX_HEADER_BYTES,
    }


def _headers(event: type[Event], members: Schema) -> Schema:
    """Describe every attribute as header text; other headers are allowed and ignored."""
    fixed = {"ce_specversion": "1.0", "ce_type": event.type}
    headers: Schema = {name: {"const": value} for name, value in fixed.items()}
    headers["ce_source"] = {"type": "string", "format": "uri-reference"}
    headers["content-type"] = (
        {"const": JSON} if event.body is not None else _text({"pattern": CONTENT_TYPE_TEXT_PATTERN})
    )
    fields = [name for name in members["properties"] if name not in {"data", *(event.body or ())}]
    for name in fields:
        if name != "content_type":
            member = members["properties"][name]
            headers[header_of(name)] = _text(
                members["$defs"][_definition_name(member)] if "$ref" in member else member
            )
    if event is Upload:
        headers["ce_account"]["not"] = {"const": INVALID_ACCOUNT}
    required = {header_of(name) for name in fields if event.model_fields[name].is_required()}
    return {
        "type": "object",
        "properties": headers,
        "required": sorted({*fixed, "ce_source", "content-type"} | required),
        "additionalProperties": {"type": "string"},
    }


def _text(member: Schema) -> Schema:
    """Describe a member as header text, with the bounds of the member."""
    one_of = [m for m in member.get("anyOf", [member]) if m.get("type") != "null"]
    kept = (
        "pattern",
        "format",
        "maxLength",
        "minLength",
        "enum",
        "contentMediaType",
        "description",
    )
    return {"type": "string"} | {name: one_of[0][name] for name in kept if name in one_of[0]}


def _definition_name(member: Schema) -> str:
    name: str = member["$ref"].rpartition("/")[2]
    return name


def _value(event: type[Event], members: Schema) -> Schema:
    if event.body is None:
        return {
            "description": "The image's own bytes, or its envelope; one character per byte.",
            "type": "string",
            "maxLength": _max_value_bytes(event),
            "contentEncoding": "binary",
            "contentMediaType": "image/*",
        }
    return {
        "type": "object",
        "properties": {name: members["properties"][name] for name in sorted(event.body)},
        "required": [each for each in sorted(event.body) if event.model_fields[each].is_required()],
        "additionalProperties": True,
    }


def _max_value_bytes(event: type[Event]) -> int:
    return max_value_bytes(event, SEALED_CONTENT_TYPE if event.body is None else "")

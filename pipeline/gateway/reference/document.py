"""Build the OpenAPI document.  Pure.

Source: OpenAPI Specification 3.1.0.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from erasestream.pipeline.gateway.callers import KEY_HEADER
from erasestream.pipeline.gateway.reference.operations import (
    JSON,
    LIMITS,
    REQUEST_ID,
    RETRY_AFTER,
    Answer,
    Contract,
    Field,
    Header,
    Operation,
)

Json = dict[str, object]
VERSION = "1"
_KEY = "key"
_LATER = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


def document(service: str, contracts: Sequence[Contract]) -> Json:
    """Return the document of these contracts."""
    paths: dict[str, Json] = {}
    for contract in contracts:
        for each in contract.operations:
            paths.setdefault(each.path, {})[each.method.lower()] = _operation(contract, each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service,
            "version": VERSION,
            "description": "Cut products out of photos. Owners decide about their images at "
            "/account, a page for browsers.",
        },
        "tags": [{"name": each.title} for each in contracts],
        "paths": paths,
        "components": {
            "securitySchemes": {_KEY: {"type": "apiKey", "in": "header", "name": KEY_HEADER}}
        },
    }


def _operation(contract: Contract, of: Operation) -> Json:
    described: Json = {
        "tags": [contract.title],
        "operationId": of.method.lower() + re.sub(r"\W+", "_", of.path).rstrip("_"),
        "summary": of.summary,
        "security": [{_KEY: []}] if of.has_key else [],
        "responses": _responses(contract, of),
    }
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", of.path)
    ]
    if of.headers or in_path:
        described["parameters"] = [*in_path, *map(_parameter, of.headers)]
    if of.bodies:
        content = {kind: {"schema": _body(fields)} for kind, fields in of.bodies.items()}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameter(header: Header) -> Json:
    return {
        "name": header.name,
        "in": "header",
        "description": header.description,
        "schema": header.schema,
    }


def _body(fields: Sequence[Field]) -> Json:
    properties = {each.name: {**each.schema, "description": each.description} for each in fields}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _responses(contract: Contract, of: Operation) -> Json:
    responses: Json = {}
    for status, answer in of.answers.items():
        responses[f"{status}"] = _response(answer, LIMITS if of.is_limited else ())
    for status, codes in contract.errors(of).items():
        answer = Answer(
            description=", ".join(codes),
            content={JSON: contract.error_schema(status, codes)},
            headers=(RETRY_AFTER,) if status in _LATER else (),
        )
        responses.setdefault(f"{status}", _response(answer, ()))
    return dict(sorted(responses.items()))


def _response(answer: Answer, headers: Sequence[Header]) -> Json:
    shown = (REQUEST_ID, *answer.headers, *headers)
    return {
        "description": answer.description,
        "headers": {each.name: _header(each) for each in shown},
        "content": {kind: {"schema": schema} for kind, schema in answer.content.items()},
    }


def _header(header: Header) -> Mapping[str, object]:
    return {
        "description": header.description,
        "required": header.is_always,
        "schema": header.schema,
    }

"""The reference agrees with the code, and docs/gateway.md with the reference."""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from erasestream.pipeline.gateway.problems import HTTP_STATUSES, HttpCode, status_of
from erasestream.pipeline.gateway.reference import routes as reference
from erasestream.pipeline.gateway.reference.document import document
from erasestream.pipeline.gateway.reference.operations import FORM, JSON, MULTIPART
from erasestream.pipeline.gateway.request_body import BodyRules
from erasestream.pipeline.gateway.routes import images, removebg, v2
from erasestream.pipeline.gateway.routes.image_upload import URL_FIELD
from erasestream.pipeline.gateway.routes.removebg_options import TYPES, WITHOUT_EFFECT
from erasestream.pipeline.gateway.routes.v2_options import READERS
from erasestream.schemas.error_codes import FAILURE_CODES
from tests.paths import ROOT

GATEWAY = ROOT / "pipeline" / "gateway"
TEXT = (ROOT / "docs" / "gateway.md").read_text()
DOCUMENT: Any = document("Service", reference.CONTRACTS)
OF_REMOVEBG = frozenset({"format", "channels", "size", "bg_color", "crop", "crop_margin"})
PAGE_CODES = frozenset({"session_ended", "form_refused", "notice_changed"})
SERVICES: Any = SimpleNamespace(deadlines=None)


def raised() -> Iterator[tuple[str, str, str]]:
    """Yield file, status and code of each `problem(HTTPStatus.X, HttpCode.Y)` in the gateway."""
    for path in sorted(GATEWAY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    args=[
                        ast.Attribute(value=ast.Name(id="HTTPStatus"), attr=status),
                        ast.Attribute(value=ast.Name(id="HttpCode"), attr=code),
                        *_,
                    ]
                ):
                    yield path.name, status, code


def test_each_code_is_raised_with_its_one_status() -> None:
    found = list(raised())
    assert len(found) > 20
    for name, status, code in found:
        assert HTTP_STATUSES[HttpCode[code]] is HTTPStatus[status], (name, code)
    assert HTTP_STATUSES.keys() == set(HttpCode)


ADAPTERS: Any = [each.adapter(SERVICES) for each in (v2, images, removebg)]


def test_all_routes_are_declared_and_no_other() -> None:
    served = {
        (route.path.rstrip("/"), method)
        for adapter in ADAPTERS
        for route in adapter.routes
        for method in route.methods - {"HEAD"}
    }
    declared = {
        (path, method.upper())
        for path, methods in DOCUMENT["paths"].items()
        if path.startswith(tuple(adapter.prefix for adapter in ADAPTERS))
        for method in methods
    }
    assert declared == served


@pytest.mark.parametrize(
    ("path", "rules", "options"),
    [
        ("/v2", v2.RULES, set(READERS)),
        ("/v1.0/removebg", removebg.RULES, {*OF_REMOVEBG, *WITHOUT_EFFECT, *TYPES}),
    ],
)
def test_the_fields_are_those_that_are_read(path: str, rules: BodyRules, options: set[str]) -> None:
    texts = {*rules.base64_fields, URL_FIELD, *options}
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
    assert set(fields(content[MULTIPART])) == {*texts, *rules.file_fields}
    assert set(fields(content[JSON])) == set(fields(content[FORM])) == texts


def fields(body: Any) -> dict[str, Any]:
    found: dict[str, Any] = body["schema"]["properties"]
    return found


def codes_in(path: str, method: str) -> dict[int, set[str]]:
    """Return the codes of an operation of `/v2` by status, as its schemas have them."""
    found = {}
    for status, answer in DOCUMENT["paths"][path][method]["responses"].items():
        schema = answer["content"].get(JSON, {}).get("schema", {})
        error = schema.get("properties", {}).get("error")
        if error:
            found[int(status)] = set(error["properties"]["code"]["enum"])
            assert error["properties"]["status"] == {"const": int(status)}
    return found


def test_the_errors_are_those_of_the_documentation() -> None:
    table = TEXT.partition("## Errors")[2].partition("## Retries")[0]
    documented = {
        code: int(status)
        for row, status in re.findall(r"^\| (`.*) \| (\d{3})\b.*\|$", table, re.MULTILINE)
        for code in re.findall(r"`([a-z_]+)`", row)
    }
    expected = {
        code: int(status)
        for code, status in HTTP_STATUSES.items()
        if code not in {HttpCode.INTERNAL, *PAGE_CODES}
    }
    assert documented == expected
    declared = set[str]()
    for path, methods in DOCUMENT["paths"].items():
        for method in methods if path.startswith("/v2") else ():
            for status, codes in codes_in(path, method).items():
                assert {int(status_of(code)) for code in codes} == {status}
                declared |= codes
    assert declared == {*(expected.keys() - {HttpCode.WRONG_METHOD}), *FAILURE_CODES}


@pytest.mark.parametrize(
    ("path", "heading"), [("/v2", "## `/v2`\n"), ("/v1.0/removebg", "## `/v1.0`: ")]
)
def test_the_fields_are_those_of_the_documentation(path: str, heading: str) -> None:
    section = TEXT.partition(heading)[2].partition("\n## ")[0]
    documented = {
        name
        for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        for name in re.findall(r"`([a-z0-9_]+)`", row)
    }
    declared = fields(DOCUMENT["paths"][path]["post"]["requestBody"]["content"][MULTIPART])
    if path != "/v2":
        documented |= {URL_FIELD}  # in the other column
    assert documented == set(declared)


def test_all_schemas_are_schemas() -> None:
    def schemas(value: Any) -> Iterator[Any]:
        match value:
            case dict():
                if "schema" in value:
                    yield value["schema"]
                for each in value.values():
                    yield from schemas(each)
            case list():
                for each in value:
                    yield from schemas(each)

    found = list(schemas(DOCUMENT["paths"]))
    assert len(found) > 50
    for each in found:
        Draft202012Validator.check_schema(each)


def test_operations_have_ids_of_their_own() -> None:
    ids = [each["operationId"] for path in DOCUMENT["paths"].values() for each in path.values()]
    assert len(ids) == len(set(ids))

"""The exported JSON Schemas: current, valid, and as strict as the decoder."""

import json

import pytest
from jsonschema import Draft202012Validator

from erasestream.schemas.codec.cloudevents import EVENTS, from_wire, max_value_bytes, to_wire
from erasestream.schemas.codec.json_schema import json_schemas
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import Event
from erasestream.schemas.options import CutoutOptions, OutputFormat
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from tests.paths import ROOT
from tests.schemas.samples import SAMPLES

FOLDER = ROOT / "schemas/json"
SCHEMAS = json_schemas()


def test_the_files_are_current() -> None:
    """`erasestream schemas --output schemas/json` writes them."""
    files = {path.stem: path.read_text() for path in FOLDER.iterdir()}
    assert files == {name: json.dumps(s, indent=2) + "\n" for name, s in SCHEMAS.items()}
    assert files.keys() == {"options", *(event.type for event in EVENTS)}


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_valid(name: str) -> None:
    """Draft 2020-12, without dangling references."""
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    for text in json.dumps(schema).split('"$ref": "#/$defs/')[1:]:
        assert text.partition('"')[0] in schema["$defs"]


def fits_schema(event: type[Event], headers: dict[str, str], value: bytes) -> bool:
    body = value.decode("latin-1") if event.body is None else json.loads(value)
    validator = Draft202012Validator(SCHEMAS[event.type])
    return validator.is_valid({"headers": headers, "value": body})


def is_decoded(event: type[Event], headers: dict[str, str], value: bytes) -> bool:
    try:
        from_wire(event, [(name, text.encode()) for name, text in headers.items()], value)
    except InvalidEvent:
        return False
    return True


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("wrong", ["", "\n", "_invalid", "a b", "x" * 300, "1/", "٣/1"])
def test_messages_that_fit_their_schema_are_decoded(sample: Event, wrong: str) -> None:
    """Header by header: the code decodes every header value that fits_schema."""
    wire = to_wire(sample, source="/test")
    headers = {name: text.decode() for name, text in wire.headers}
    assert fits_schema(type(sample), headers, wire.value)
    as_json = {"ce_time", "ce_uploadedat", "ce_options", "ce_stepsms"}
    for name in headers.keys() - as_json:  # formats and inner documents are hints, not checks
        changed = headers | {name: wrong}
        if fits_schema(type(sample), changed, wire.value):
            assert is_decoded(type(sample), changed, wire.value), name


@pytest.mark.parametrize("event", [event for event in EVENTS if event.body is None])
def test_images_have_the_size_limit_of_the_code(event: type[Event]) -> None:
    value = SCHEMAS[event.type]["properties"]["value"]
    assert value["contentMediaType"] == "image/*"
    assert value["maxLength"] == max_value_bytes(event, SEALED_CONTENT_TYPE)


def test_the_options_schema_accepts_what_the_model_accepts() -> None:
    validator = Draft202012Validator(SCHEMAS["options"])
    for name in OutputFormat:
        options = CutoutOptions(format=name)
        assert validator.is_valid(json.loads(options.to_json()))
        assert validator.is_valid({"format": str(name)})
    everything = CutoutOptions(
        format=OutputFormat.JPG, crop=True, crop_margin="5%", max_dimension=99, quality=1
    )
    assert validator.is_valid(json.loads(everything.to_json()))
    assert not validator.is_valid({"format": "gif"})
    assert not validator.is_valid({"crop_margin": "5em"})
    assert not validator.is_valid({"quality": 101})
    assert not validator.is_valid({"colour": "blue"})
    assert not validator.is_valid([])

"""Events on the wire: encoded, decoded, and compatible with older and newer releases."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.codec.cloudevents import (
    EVENTS,
    from_wire,
    one_from_wire,
    to_wire,
    type_of,
)
from erasestream.schemas.codec.json_schema import json_schemas
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.images import Cutout, Failure, Retained, Upload
from erasestream.schemas.options import CutoutOptions
from tests.schemas.codec.messages import golden, with_header
from tests.schemas.samples import SAMPLES

UPLOAD, CUTOUT = SAMPLES[0], SAMPLES[1]


def test_there_is_a_sample_of_every_event() -> None:
    assert {type(sample) for sample in SAMPLES} == set(EVENTS)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_messages_of_the_first_release_are_decoded(sample: Event) -> None:
    headers, value = golden(type(sample))
    assert type_of(headers) is type(sample)
    assert from_wire(type(sample), headers, value) == sample


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_events_are_encoded_as_in_the_first_release(sample: Event) -> None:
    headers, value = golden(type(sample))
    wire = to_wire(sample, source="/golden")
    assert sorted(wire.headers) == sorted(headers)
    assert wire.value == value


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_unknown_headers_and_members_are_ignored(sample: Event) -> None:
    headers, value = golden(type(sample))
    headers = [*headers, ("ce_colour", b"blue"), ("traceparent", b"00-0-0-00"), ("x", b"")]
    if sample.body is not None:
        value = json.dumps(json.loads(value) | {"mood": "good"}).encode()
    assert from_wire(type(sample), headers, value) == sample


@pytest.mark.parametrize(
    ("text", "wish"), [(None, None), (b"false", False), (b"true", True), (b"1", True), (b"", True)]
)
def test_a_wish_that_narrows_is_taken_however_it_is_written(
    text: bytes | None, wish: bool | None
) -> None:
    """An image must not be retained because `true` was misspelt."""
    headers = list(to_wire(UPLOAD, source="/test").headers)
    if text is not None:
        headers.append(("ce_neverretain", text))
    assert from_wire(Upload, headers, b"pixels").never_retain is wish


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_messages_fit_their_schema(sample: Event) -> None:
    headers, value = golden(type(sample))
    message = {
        "headers": {name: text.decode() for name, text in headers},
        "value": "..." if sample.body is None else json.loads(value),
    }
    jsonschema.validate(message, json_schemas()[sample.type])
    del message["headers"]["ce_id"]  # type: ignore[attr-defined]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(message, json_schemas()[sample.type])


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_the_type_selects_one_of_several_events(sample: Event) -> None:
    headers, value = golden(type(sample))
    others = tuple(event for event in EVENTS if event is not type(sample))
    assert one_from_wire(EVENTS, headers, value) == sample
    with pytest.raises(InvalidEvent, match="ce_type"):
        one_from_wire(others, headers, value)


IDS = (
    "order 4711/front",
    "7",
    "urn:uuid:019B7D2C-1D4E",
    "019B7D2C-1D4E-7000-8000-00000000002A",
    "é",
)


@pytest.mark.parametrize("text", [*IDS, "x" * 255])
def test_an_upload_and_its_results_have_any_id_of_cloudevents(text: str) -> None:
    for sample in SAMPLES:
        if isinstance(sample, Upload | Cutout | Failure | Retained):
            headers, value = golden(type(sample))
            headers = with_header(headers, "ce_id", text.encode())
            event = from_wire(type(sample), headers, value)
            assert event == sample.model_copy(update={"id": text})
            assert ("ce_id", text.encode()) in to_wire(event, source="/s").headers


def test_the_time_of_an_upload_is_optional() -> None:
    headers, value = golden(Upload)
    event = from_wire(Upload, with_header(headers, "ce_time", None), value)
    assert event == UPLOAD.model_copy(update={"time": None})
    assert "ce_time" not in dict(to_wire(event, source="/s").headers)


@pytest.mark.parametrize(
    "written", ["image/png; charset=utf-8", "image/png;q=1;x", "Image/PNG", "image/png ; a=b"]
)
def test_parameters_of_a_content_type_are_ignored(written: str) -> None:
    headers, value = golden(Upload)
    headers = with_header(headers, "content-type", written.encode())
    assert from_wire(Upload, headers, value) == UPLOAD
    schema = json_schemas()[Upload.type]
    message = {"headers": {name: text.decode() for name, text in headers}, "value": "..."}
    jsonschema.validate(message, schema)


def test_a_message_without_options_has_the_defaults() -> None:
    """Foreign clients need not know them."""
    headers, value = golden(Upload)
    upload = from_wire(Upload, with_header(headers, "ce_options", None), value)
    assert upload.options == CutoutOptions()


@pytest.mark.parametrize("name", ["x-trace", "ce_traceparent", "ce_account"])
def test_foreign_and_repeated_headers_need_not_be_utf_8(name: str) -> None:
    headers, value = golden(Upload)
    assert from_wire(Upload, [*headers, (name, b"\xff")], value) == UPLOAD


def test_the_first_of_several_headers_counts() -> None:
    """Headers appended later change nothing."""
    headers, value = golden(Upload)
    assert from_wire(Upload, [*headers, ("ce_account", b"mallory")], value) == UPLOAD


@given(
    reference=st.none() | st.text(min_size=1, max_size=128).filter(lambda t: t.isprintable()),
    data=st.binary(max_size=100),
    account=st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z").filter(lambda a: a != "_invalid"),
)
def test_round_trip(reference: str | None, data: bytes, account: str) -> None:
    upload = Upload.model_validate(
        UPLOAD.model_dump() | {"reference": reference, "data": data, "account": account}
    )
    wire = to_wire(upload, source="/x")
    assert from_wire(Upload, wire.headers, wire.value) == upload

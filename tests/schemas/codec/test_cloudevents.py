"""Events on the wire: what was written is read, and what is wrong is named."""

import base64
import itertools
import json
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.codec import cloudevents
from erasestream.schemas.codec.cloudevents import (
    EVENTS,
    from_wire,
    header_of,
    one_from_wire,
    to_wire,
    type_of,
)
from erasestream.schemas.codec.json_schema import json_schemas
from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.images import (
    MAX_CUTOUT_BYTES,
    MAX_UPLOAD_BYTES,
    Cutout,
    Failure,
    Upload,
)
from erasestream.schemas.options import CutoutOptions
from tests.schemas.samples import SAMPLES

GOLDEN = Path(__file__).parent / "golden"
Pairs = list[tuple[str, bytes]]
UPLOAD, CUTOUT = SAMPLES[0], SAMPLES[1]


def golden(event: type[Event]) -> tuple[Pairs, bytes]:
    """The message of this type as the first release wrote it."""
    message = json.loads((GOLDEN / f"{event.type}.json").read_text())
    headers = [(name, value.encode()) for name, value in message["headers"]]
    return headers, base64.b64decode(message["value"])


def changed(headers: Pairs, name: str, value: bytes | None) -> Pairs:
    """The headers with one replaced, or left out."""
    kept = [(n, v) for n, v in headers if n != name]
    return kept if value is None else [*kept, (name, value)]


def refusal(event: type[Event], headers: Pairs, value: bytes) -> Code:
    """The code that a message is refused with."""
    with pytest.raises(InvalidEvent) as refused:
        from_wire(event, headers, value)
    return refused.value.code


def test_there_is_a_sample_of_every_event() -> None:
    """So that none is left out of the tests below."""
    assert {type(sample) for sample in SAMPLES} == set(EVENTS)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_messages_of_the_first_release_are_read(sample: Event) -> None:
    """By today's code, to the event that they were written from."""
    headers, value = golden(type(sample))
    assert type_of(headers) is type(sample)
    assert from_wire(type(sample), headers, value) == sample


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_the_same_bytes_are_written(sample: Event) -> None:
    """Older readers see nothing new."""
    headers, value = golden(type(sample))
    wire = to_wire(sample, source="/golden")
    assert sorted(wire.headers) == sorted(headers)
    assert wire.value == value


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_what_a_newer_writer_adds_is_ignored(sample: Event) -> None:
    """Headers, and members of the body."""
    headers, value = golden(type(sample))
    headers = [*headers, ("ce_colour", b"blue"), ("traceparent", b"00-0-0-00"), ("x", b"")]
    if sample.body is not None:
        value = json.dumps(json.loads(value) | {"mood": "good"}).encode()
    assert from_wire(type(sample), headers, value) == sample


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_messages_fit_their_schema(sample: Event) -> None:
    """What is exported describes what is written."""
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
def test_every_required_header_is_missed(sample: Event) -> None:
    """Leaving one out is a typed error, never something else."""
    headers, value = golden(type(sample))
    for name in json_schemas()[sample.type]["properties"]["headers"]["required"]:
        if name == "ce_source" or (name == "content-type" and sample.body is not None):
            continue  # says who wrote it; nothing is decided by it
        assert refusal(type(sample), changed(headers, name, None), value)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_one_of_several_events_is_told_by_its_type(sample: Event) -> None:
    """And what is none of them is refused."""
    headers, value = golden(type(sample))
    others = tuple(event for event in EVENTS if event is not type(sample))
    assert one_from_wire(EVENTS, headers, value) == sample
    with pytest.raises(InvalidEvent, match="ce_type"):
        one_from_wire(others, headers, value)


def test_unknown_versions_are_named() -> None:
    """Another major of a known event, and another CloudEvents."""
    headers, value = golden(Upload)
    newer = changed(headers, "ce_type", b"com.backgrounderase.image.uploaded.v2")
    assert refusal(Upload, newer, value) is Code.UNSUPPORTED_VERSION
    other = changed(headers, "ce_specversion", b"2.0")
    assert refusal(Upload, other, value) is Code.UNSUPPORTED_VERSION


def test_another_event_is_not_taken_for_this_one() -> None:
    """Neither one of ours nor a stranger's."""
    headers, value = golden(Failure)
    assert refusal(Cutout, headers, value) is Code.INVALID_EVENT
    strange = changed(headers, "ce_type", b"com.example.thing.v1")
    assert refusal(Failure, strange, value) is Code.INVALID_EVENT


@pytest.mark.parametrize("account", [None, b"", b"a b", b"ann@example.com", b"_invalid", b"x" * 65])
def test_accounts_that_nobody_can_have(account: bytes | None) -> None:
    """Missing, malformed, reserved: one code."""
    headers, value = golden(Upload)
    assert refusal(Upload, changed(headers, "ce_account", account), value) is Code.INVALID_ACCOUNT


@pytest.mark.parametrize("options", [b"", b"{", b"[]", b'{"format":"gif"}', b'{"colour":"blue"}'])
def test_options_that_can_not_be_asked_for(options: bytes) -> None:
    """A typo must not silently give another picture."""
    headers, value = golden(Upload)
    assert refusal(Upload, changed(headers, "ce_options", options), value) is Code.INVALID_OPTIONS


def test_default_options_are_those_of_a_message_without() -> None:
    """Foreign clients need not know them."""
    headers, value = golden(Upload)
    upload = from_wire(Upload, changed(headers, "ce_options", None), value)
    assert upload.options == CutoutOptions()


@pytest.mark.parametrize("name", ["ce_reference", "ce_source", "content-type"])
def test_header_that_is_no_text(name: str) -> None:
    """Is an error of the event, not of ours."""
    headers, value = golden(Upload)
    assert refusal(Upload, changed(headers, name, b"\xff"), value) is Code.INVALID_EVENT


@pytest.mark.parametrize("name", ["x-trace", "ce_traceparent", "ce_account"])
def test_what_others_append_need_not_be_text(name: str) -> None:
    """A header that no event has, or that is there already, fails no upload."""
    headers, value = golden(Upload)
    assert from_wire(Upload, [*headers, (name, b"\xff")], value) == UPLOAD


def test_first_of_several_headers_counts() -> None:
    """What somebody appends later changes nothing."""
    headers, value = golden(Upload)
    assert from_wire(Upload, [*headers, ("ce_account", b"mallory")], value) == UPLOAD


def test_headers_replace_no_part_of_the_value() -> None:
    """Neither an image nor a member of a body, not even one that is missing there."""
    headers, value = golden(Upload)
    assert from_wire(Upload, [*headers, ("ce_data", b"another image")], value) == UPLOAD
    headers, _ = golden(Failure)
    assert refusal(Failure, [*headers, ("ce_code", b"corrupt")], b'{"sentence": "x"}')


def test_headers_are_bounded() -> None:
    """All of them together."""
    headers, value = golden(Upload)
    large = [*headers, ("x", b"x" * cloudevents.MAX_HEADER_BYTES)]
    assert refusal(Upload, large, value) is Code.INVALID_EVENT


@pytest.mark.parametrize(
    ("sample", "limit", "code"),
    [
        (UPLOAD, MAX_UPLOAD_BYTES, Code.TOO_LARGE),
        (CUTOUT, MAX_CUTOUT_BYTES, Code.RESULT_TOO_LARGE),
    ],
    ids=["upload", "cutout"],
)
def test_values_are_bounded_both_ways(sample: Upload | Cutout, limit: int, code: Code) -> None:
    """So many bytes are taken, one more is not."""
    event = type(sample)
    headers, _ = golden(event)
    assert len(from_wire(event, headers, bytes(limit)).data) == limit
    assert refusal(event, headers, bytes(limit + 1)) is code
    with pytest.raises(InvalidEvent) as refused:
        to_wire(sample.model_copy(update={"data": bytes(limit + 1)}), source="/x")
    assert refused.value.code is code


def test_bodies_are_bounded() -> None:
    """By less than images are."""
    headers, _ = golden(Failure)
    large = json.dumps({"code": "x", "sentence": "x" * 20_000}).encode()
    assert refusal(Failure, headers, large) is Code.INVALID_EVENT


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b"null", b"\xff", b'{"code": "x"}', b"[" * 9000]
)
def test_bodies_that_are_not_what_they_should_be(value: bytes) -> None:
    """No JSON, no object, a member missing."""
    headers, _ = golden(Failure)
    assert refusal(Failure, headers, value) is Code.INVALID_EVENT


OURS = sorted(header_of(field) for event in EVENTS for field in event.model_fields)
ODD = (
    *sorted({value for sample in SAMPLES for _, value in to_wire(sample, source="/s").headers}),
    b"1.00",
    b"acct-17\n",
    b"\xff",
    b"\xed\xa0\x80",
    "é".encode() * 256,
    b"A" * 22 + b"/3/" + b"9" * 4500,
    b"A" * 22 + b"/03/1",
    b"A" * 22 + b"/3/1\n",
    b"2026-01-02T03:04:05",
    b"2026-02-30T03:04:05Z",
    b"1767323045",
    b"nan",
    b'{"a":NaN}',
    b'{"a":1e999}',
    b'{"\\ud800":1}',
    b'{"a":1,}',
    b"[" * 9000,
    b"\xef\xbb\xbf{}",
)
"""What is right in another header, and what hardly is anywhere."""


@given(
    sample=st.sampled_from(SAMPLES),
    replaced=st.lists(
        st.tuples(
            st.sampled_from(OURS) | st.text(max_size=5),
            st.binary(max_size=40) | st.sampled_from(ODD),
        ),
        min_size=1,
        max_size=4,
    ),
    body=st.none() | st.binary(max_size=40),
)
def test_nothing_but_typed_errors(sample: Event, replaced: Pairs, body: bytes | None) -> None:
    """Whatever a stranger sends."""
    headers, value = golden(type(sample))
    for name, other in replaced:
        headers = changed(headers, name, other)
    with suppress(InvalidEvent):
        from_wire(type(sample), headers, value if body is None else body)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_no_header_that_is_odd_does_more_harm(sample: Event) -> None:
    """Each of them with each of these."""
    headers, value = golden(type(sample))
    for name, odd in itertools.product(OURS, ODD):
        with suppress(InvalidEvent):
            from_wire(type(sample), changed(headers, name, odd), value)


@given(
    reference=st.none() | st.text(min_size=1, max_size=128).filter(lambda t: t.isprintable()),
    data=st.binary(max_size=100),
    account=st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z").filter(lambda a: a != "_invalid"),
)
def test_round_trip(reference: str | None, data: bytes, account: str) -> None:
    """What is written is read again."""
    upload = Upload.model_validate(
        UPLOAD.model_dump() | {"reference": reference, "data": data, "account": account}
    )
    wire = to_wire(upload, source="/x")
    assert from_wire(Upload, wire.headers, wire.value) == upload


def test_messages_of_errors_show_no_values() -> None:
    """Names of attributes, never what stood in them."""
    headers, value = golden(Upload)
    for name, secret in (("ce_account", b"ann@example.com"), ("ce_time", b"yesterday-secret")):
        with pytest.raises(InvalidEvent) as refused:
            from_wire(Upload, changed(headers, name, secret), value)
        assert secret.decode() not in str(refused.value)
        assert refused.value.__cause__ is None
    assert CUTOUT.data.decode(errors="replace") not in repr(CUTOUT)  # type: ignore[attr-defined]

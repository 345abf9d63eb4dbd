"""Malformed messages: refused with the right code, and without quoting their content."""

import itertools
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.codec import cloudevents
from erasestream.schemas.codec.cloudevents import (
    EVENTS,
    from_wire,
    header_of,
    to_wire,
)
from erasestream.schemas.codec.json_schema import json_schemas
from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.images import (
    MAX_CUTOUT_BYTES,
    MAX_UPLOAD_BYTES,
    Cutout,
    Failure,
    Retained,
    Upload,
)
from tests.schemas.codec.messages import Pairs, golden, refusal, with_header
from tests.schemas.samples import SAMPLES

UPLOAD, CUTOUT = SAMPLES[0], SAMPLES[1]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_a_missing_required_header_is_refused(sample: Event) -> None:
    headers, value = golden(type(sample))
    for name in json_schemas()[sample.type]["properties"]["headers"]["required"]:
        if name == "ce_source" or (name == "content-type" and sample.body is not None):
            continue  # informational
        assert refusal(type(sample), with_header(headers, name, None), value)


def test_unknown_versions_are_unsupported() -> None:
    """Another major version of a known event, and another CloudEvents version."""
    headers, value = golden(Upload)
    newer = with_header(headers, "ce_type", b"com.backgrounderase.image.uploaded.v2")
    assert refusal(Upload, newer, value) is Code.UNSUPPORTED_VERSION
    other = with_header(headers, "ce_specversion", b"2.0")
    assert refusal(Upload, other, value) is Code.UNSUPPORTED_VERSION


def test_another_event_is_refused() -> None:
    """One of ours, and a stranger's."""
    headers, value = golden(Failure)
    assert refusal(Cutout, headers, value) is Code.INVALID_EVENT
    strange = with_header(headers, "ce_type", b"com.example.thing.v1")
    assert refusal(Failure, strange, value) is Code.INVALID_EVENT


@pytest.mark.parametrize("event", [Cutout, Retained])
def test_a_capsule_has_one_spelling(event: type[Event]) -> None:
    """Other characters, padding, bits that are dropped, lengths that none has."""
    headers, value = golden(event)
    read = from_wire(event, with_header(headers, "ce_capsule", b"-_8"), value)
    assert read.model_dump()["capsule"] == "-_8"
    assert dict(to_wire(read, source="/test").headers)["ce_capsule"] == b"-_8"
    for text in (b"", b"A", b"-_9", b"-_8=", b"+/8", b"-_8\n", b"A" * 513):
        assert refusal(event, with_header(headers, "ce_capsule", text), value)


@pytest.mark.parametrize("account", [None, b"", b"a b", b"ann@example.com", b"_invalid", b"x" * 65])
def test_invalid_accounts_are_refused(account: bytes | None) -> None:
    """Missing, malformed, reserved: one code."""
    headers, value = golden(Upload)
    assert (
        refusal(Upload, with_header(headers, "ce_account", account), value) is Code.INVALID_ACCOUNT
    )


@pytest.mark.parametrize("options", [b"", b"{", b"[]", b'{"format":"gif"}', b'{"colour":"blue"}'])
def test_invalid_options_are_refused(options: bytes) -> None:
    """A typo must not silently produce another picture."""
    headers, value = golden(Upload)
    assert (
        refusal(Upload, with_header(headers, "ce_options", options), value) is Code.INVALID_OPTIONS
    )


@pytest.mark.parametrize("name", ["ce_reference", "ce_source", "content-type"])
def test_a_header_of_ours_that_is_not_utf_8_is_refused(name: str) -> None:
    headers, value = golden(Upload)
    assert refusal(Upload, with_header(headers, name, b"\xff"), value) is Code.INVALID_EVENT


def test_headers_replace_no_part_of_the_value() -> None:
    """Neither an image nor a member of a body, not even a missing one."""
    headers, value = golden(Upload)
    assert from_wire(Upload, [*headers, ("ce_data", b"another image")], value) == UPLOAD
    headers, _ = golden(Failure)
    assert refusal(Failure, [*headers, ("ce_code", b"corrupt")], b'{"sentence": "x"}')


def test_headers_are_bounded() -> None:
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
def test_values_are_bounded_in_both_directions(
    sample: Upload | Cutout, limit: int, code: Code
) -> None:
    event = type(sample)
    headers, _ = golden(event)
    assert len(from_wire(event, headers, bytes(limit)).data) == limit
    assert refusal(event, headers, bytes(limit + 1)) is code
    with pytest.raises(InvalidEvent) as refused:
        to_wire(sample.model_copy(update={"data": bytes(limit + 1)}), source="/x")
    assert refused.value.code is code


def test_bodies_are_bounded() -> None:
    headers, _ = golden(Failure)
    large = json.dumps({"code": "x", "sentence": "x" * 20_000}).encode()
    assert refusal(Failure, headers, large) is Code.INVALID_EVENT


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b"null", b"\xff", b'{"code": "x"}', b"[" * 9000]
)
def test_malformed_bodies_are_refused(value: bytes) -> None:
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
"""Values that are valid in another header, or hardly anywhere."""


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
def test_arbitrary_messages_raise_typed_errors_only(
    sample: Event, replaced: Pairs, body: bytes | None
) -> None:
    headers, value = golden(type(sample))
    for name, other in replaced:
        headers = with_header(headers, name, other)
    with suppress(InvalidEvent):
        from_wire(type(sample), headers, value if body is None else body)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_odd_headers_raise_typed_errors_only(sample: Event) -> None:
    """Every header with every odd value."""
    headers, value = golden(type(sample))
    for name, odd in itertools.product(OURS, ODD):
        with suppress(InvalidEvent):
            from_wire(type(sample), with_header(headers, name, odd), value)


@pytest.mark.parametrize(
    ("dropped", "named"),
    [
        (["ce_type", "content-type"], "missing: ce_type, content-type"),
        (["ce_specversion", "ce_id"], "missing: ce_specversion, ce_id"),
        (["ce_account", "ce_id"], "missing: ce_id, ce_account"),
    ],
)
def test_a_refusal_names_the_required_headers_that_are_missing(
    dropped: list[str], named: str
) -> None:
    """All of them at once, by the names of the headers."""
    headers, value = golden(Upload)
    headers = [(name, text) for name, text in headers if name not in dropped]
    with pytest.raises(InvalidEvent) as refused:
        from_wire(Upload, headers, value)
    assert refused.value.detail == named


def test_without_any_header_all_required_ones_are_named() -> None:
    headers, value = golden(Upload)
    with pytest.raises(InvalidEvent) as refused:
        from_wire(Upload, [], value)
    needed = refused.value.detail.removeprefix("missing: ").split(", ")
    assert needed == ["ce_specversion", "ce_type", "ce_id", "ce_account", "content-type"]
    kept = [(name, text) for name, text in headers if name in needed]
    assert from_wire(Upload, kept, value).id == UPLOAD.id


def test_a_malformed_header_is_named_beside_the_missing_ones() -> None:
    headers, value = golden(Upload)
    headers = with_header(with_header(headers, "ce_id", b"a\nb"), "content-type", None)
    with pytest.raises(InvalidEvent) as refused:
        from_wire(Upload, headers, value)
    assert refused.value.detail == "missing: content-type; ce_id"


def test_errors_name_attributes_and_quote_no_values() -> None:
    headers, value = golden(Upload)
    for name, secret in (("ce_account", b"ann@example.com"), ("ce_time", b"yesterday-secret")):
        with pytest.raises(InvalidEvent) as refused:
            from_wire(Upload, with_header(headers, name, secret), value)
        assert secret.decode() not in str(refused.value)
        assert refused.value.__cause__ is None
    assert CUTOUT.data.decode(errors="replace") not in repr(CUTOUT)  # type: ignore[attr-defined]

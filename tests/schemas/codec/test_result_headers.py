"""Headers of results: equal to those of the decoded event, or refused."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from erasestream.schemas.codec.cloudevents import one_from_wire, to_wire
from erasestream.schemas.codec.result_headers import parse_result_headers
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.images import RESULTS, Cutout, Failure
from tests.schemas.samples import SAMPLES, headers_of

HEADERS = ("ce_type", "ce_specversion", "ce_account", "ce_position", "ce_uploadedat")
FOUND = [sample for sample in SAMPLES if isinstance(sample, Cutout | Failure)]
FOUND += [each.model_copy(update={"capsule": b"keys"}) for each in FOUND if type(each) is Cutout]
FOUND += [each.model_copy(update={"never_retain": True}) for each in FOUND if type(each) is Cutout]
OTHERS = [sample for sample in SAMPLES if not isinstance(sample, Cutout | Failure)]


@pytest.mark.parametrize("sample", FOUND, ids=lambda event: type(event).__name__)
def test_headers_equal_those_of_the_decoded_event(sample: Cutout | Failure) -> None:
    """In any order, and with other headers among them."""
    headers = to_wire(sample, source="/test").headers
    assert parse_result_headers(headers) == headers_of(sample)
    assert parse_result_headers([("x", b"\xff"), *reversed(headers)]) == headers_of(sample)


@pytest.mark.parametrize("sample", OTHERS, ids=lambda event: type(event).__name__)
def test_other_events_are_refused(sample: Event) -> None:
    with pytest.raises(InvalidEvent, match="ce_type"):
        parse_result_headers(to_wire(sample, source="/test").headers)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("value", [None, b"", b"\xff", b"nonsense/1/2 of\nnow"])
def test_an_invalid_header_is_named(name: str, value: bytes | None) -> None:
    """Missing, empty, not text, or nonsense."""
    headers = [(n, v) for n, v in to_wire(FOUND[0], source="/test").headers if n != name]
    if value is not None:
        headers.append((name, value))
    with pytest.raises(InvalidEvent, match=name):
        parse_result_headers(headers)


def test_a_time_without_a_zone_is_refused() -> None:
    """The age of an upload is computed from it."""
    headers = [
        (n, v.removesuffix(b"Z") if n == "ce_uploadedat" else v)
        for n, v in to_wire(FOUND[0], source="/test").headers
    ]
    with pytest.raises(InvalidEvent, match="ce_uploadedat"):
        parse_result_headers(headers)


@given(
    sample=st.sampled_from(FOUND),
    more=st.lists(st.tuples(st.sampled_from(HEADERS), st.binary(max_size=8) | st.just(b"other"))),
    first=st.booleans(),
)
def test_parsing_headers_agrees_with_decoding_the_event(
    sample: Cutout | Failure, more: list[tuple[str, bytes]], *, first: bool
) -> None:
    """For any headers, both are refused or both agree.

    Except for times written as numbers: only the header parser refuses them, and no writer of
    results uses them.

    """
    wire = to_wire(sample, source="/test")
    headers = [*more, *wire.headers] if first else [*wire.headers, *more]
    time = next(value for name, value in headers if name == "ce_uploadedat")
    assume(not is_number(time))
    try:
        whole = headers_of(one_from_wire(RESULTS, headers, wire.value))
    except InvalidEvent:
        with pytest.raises(InvalidEvent):
            parse_result_headers(headers)
    else:
        assert parse_result_headers(headers) == whole


def is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Events as values: encoded and decoded without loss, and printed without their content."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from erasestream.schemas.codec.cloudevents import from_wire, to_wire
from erasestream.schemas.errors import FAILURE_CODES, Code, InvalidEvent
from erasestream.schemas.events.base import Event, Position, PositionField, utc
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.events.images import Cutout, Failure, Part, Retained, Upload
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    ErasureEntry,
    ErasureProgress,
    Finding,
    FindingKind,
    GrantErased,
    KeyDestroyed,
    KeyState,
    MasterDestroyed,
    Repair,
)
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId, idempotent_upload_id
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.schemas.options import CutoutOptions, OutputFormat
from tests.schemas.samples import SAMPLES

ZONES = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2999, 1, 1), timezones=ZONES)  # noqa: DTZ001
UUIDS = st.uuids().map(str)
ACCOUNTS = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z").filter(lambda a: a != "_invalid")
LANES = st.from_regex(r"\A[a-z][a-z0-9-]{0,31}\Z")
ACTORS = st.from_regex(r"\A[A-Za-z0-9_.:-]{1,64}\Z")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=255)
REFERENCES = st.none() | TEXT.filter(bool).map(lambda text: text[:128])
TYPES = st.sampled_from(["image/png", "image/jpeg", "image/webp"])
COUNTS = st.integers(0, 2**62)
POSITIONS = st.builds(
    Position,
    topic_id=st.from_regex(r"\A[A-Za-z0-9_-]{22}\Z"),
    partition=st.integers(0, 10_000),
    offset=COUNTS,
)

EVENT = {"id": UUIDS, "time": TIMES}
OF_ACCOUNT = EVENT | {"account": ACCOUNTS}
RESULT = OF_ACCOUNT | {"reference": REFERENCES, "position": POSITIONS, "uploaded_at": TIMES}
IMAGE = {"content_type": TYPES, "data": st.binary(max_size=50)}
MADE = {
    "decision": st.sampled_from(Decision),
    "actor": ACTORS,
    "channel": st.sampled_from(Channel),
}

CUTOUTS = st.builds(
    Cutout,
    **RESULT | IMAGE,
    model=TEXT,
    model_sha256=st.from_regex(r"\A[0-9a-f]{64}\Z"),
    model_version=TEXT,
    steps_ms=st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
FAILURES = st.builds(Failure, **RESULT, code=st.sampled_from(FAILURE_CODES).map(str), sentence=TEXT)
ANY: tuple[st.SearchStrategy[Event], ...] = (
    st.builds(
        Upload,
        **OF_ACCOUNT | IMAGE,
        reference=REFERENCES,
        options=st.builds(CutoutOptions, format=st.sampled_from(OutputFormat)),
    ),
    CUTOUTS,
    FAILURES,
    st.builds(
        Retained,
        **OF_ACCOUNT | IMAGE,
        lane=LANES,
        part=st.sampled_from(Part),
        grant=UUIDS,
        mark=st.builds("{}/{}".format, COUNTS, COUNTS),
        position=POSITIONS,
        uploaded_at=TIMES,
    ),
    st.builds(ConsentDecision, **OF_ACCOUNT | MADE),
    st.builds(DecisionEntry, **OF_ACCOUNT | MADE, lane=LANES),
    st.builds(ErasureEntry, **OF_ACCOUNT, lane=LANES, grant=UUIDS),
    st.builds(Finding, **EVENT, kind=st.sampled_from(FindingKind), detail=TEXT),
    st.builds(Repair, **EVENT, command=TEXT, detail=TEXT, actor=TEXT),
    st.builds(
        KeyDestroyed,
        **EVENT,
        purpose=TEXT,
        epoch=st.integers(min_value=0),
        public_key_sha256=st.just("ab" * 32),
        state=st.sampled_from(KeyState),
    ),
    st.builds(
        GrantErased,
        **OF_ACCOUNT | dict.fromkeys(("grant", "decision"), UUIDS),
        **dict.fromkeys(("recorded", "confirmed"), TIMES),
        lane=LANES,
        objects=COUNTS,
        objects_root=st.just("ab" * 32),
        keys=st.lists(ACTORS, max_size=3).map(tuple),
        state=st.sampled_from(KeyState),
    ),
    st.builds(ErasureProgress, **OF_ACCOUNT, lane=LANES, grant=UUIDS, deleted=COUNTS, left=COUNTS),
    st.builds(MasterDestroyed, **EVENT, master=ACTORS),
)


@given(event=st.one_of(*ANY))
def test_every_event_survives_encoding(event: Event) -> None:
    """Encoded again it has the same bytes."""
    wire = to_wire(event, source="/test")
    read = from_wire(type(event), wire.headers, wire.value)
    assert read == event
    assert to_wire(read, source="/test") == wire


@given(event=st.one_of(*ANY))
def test_the_value_is_the_image_and_headers_are_unique(event: Event) -> None:
    wire = to_wire(event, source="/test")
    names = [name for name, _ in wire.headers]
    assert len(names) == len(set(names))
    assert all(name == "content-type" or name.removeprefix("ce_").isalnum() for name in names)
    if event.body is None:
        assert wire.value == getattr(event, "data")  # noqa: B009


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda event: type(event).__name__)
def test_validation_errors_quote_no_values(sample: Event) -> None:
    """Neither pixels nor accounts."""
    secret = "ann@example.com"
    for field in type(sample).model_fields:
        with pytest.raises((ValidationError, InvalidEvent)) as refused:
            type(sample).model_validate(sample.model_dump() | {field: [secret]})
        assert secret not in str(refused.value)
        assert "acct-17" not in str(refused.value)


def test_no_event_prints_pixels() -> None:
    for sample in SAMPLES:
        assert "not really an image" not in repr(sample)
        assert "not really an image" not in str(sample)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/1/2",
        "A" * 22,
        "A" * 22 + "/1",
        "A" * 22 + "/1/2/3",
        "A" * 22 + "/01/2",
        "A" * 22 + "/1/-2",
        "A" * 22 + "/1/٣",
        "A" * 22 + "/1/2\n",
        "A" * 22 + "/1/" + "9" * 5000,
    ],
)
def test_positions_have_one_written_form(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(PositionField).validate_python(text)


@pytest.mark.parametrize("value", [b'{"a":', b"[1]", b'{"a": NaN}', b'{"a": "b"}', b"[" * 9000])
def test_steps_are_finite_numbers(value: bytes) -> None:
    wire = to_wire(SAMPLES[1], source="/test")
    headers = [(n, value if n == "ce_stepsms" else v) for n, v in wire.headers]
    with pytest.raises(InvalidEvent) as refused:
        from_wire(Cutout, headers, wire.value)
    assert refused.value.code is Code.INVALID_EVENT


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "cp500"])
def test_bodies_are_utf_8(encoding: str) -> None:
    """As RFC 8259 requires; other encodings could be read differently by other readers."""
    wire = to_wire(SAMPLES[4], source="/test")
    with pytest.raises(InvalidEvent) as refused:
        from_wire(ConsentDecision, wire.headers, wire.value.decode().encode(encoding))
    assert refused.value.code is Code.INVALID_EVENT


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("com.backgrounderase.image.uploaded.v2", Code.UNSUPPORTED_VERSION),
        ("com.backgrounderase.image.uploaded.v10", Code.UNSUPPORTED_VERSION),
        ("com.backgrounderase.image.uploaded.v", Code.INVALID_EVENT),
        ("com.backgrounderase.image.uploaded.v01", Code.INVALID_EVENT),
        ("com.backgrounderase.image.uploaded.very", Code.INVALID_EVENT),
        ("com.backgrounderase.image.uploaded.v1.v1", Code.INVALID_EVENT),
        ("com.backgrounderase.image.uploaded", Code.INVALID_EVENT),
        ("COM.backgrounderase.image.uploaded.v1", Code.INVALID_EVENT),
        (".v2", Code.INVALID_EVENT),
        ("", Code.INVALID_EVENT),
    ],
)
def test_only_another_major_version_of_a_known_event_is_unsupported(name: str, code: Code) -> None:
    wire = to_wire(SAMPLES[0], source="/test")
    headers = [(n, name.encode() if n == "ce_type" else v) for n, v in wire.headers]
    with pytest.raises(InvalidEvent) as refused:
        from_wire(Upload, headers, wire.value)
    assert refused.value.code is code


@given(ms=st.integers(0, 32_503_680_000_000))
def test_broker_timestamps_keep_their_milliseconds(ms: int) -> None:
    """Up to the year 3000."""
    assert (utc(ms) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == ms


@given(made=st.datetimes(timezones=ZONES), appended_ms=st.integers(0, 32_503_680_000_000))
def test_a_grant_is_void_unless_appended_within_the_window(
    made: datetime, appended_ms: int
) -> None:
    """Five seconds either way, by any clock of the writer; revocations are never void."""
    decision = ConsentDecision(
        id=UploadId("019b7d2c-1d4e-7000-8000-00000000002a"),
        time=made,
        account=AccountId("a"),
        decision=Decision.GRANTED,
        actor="owner",
        channel=Channel.LIBRARY,
    )
    apart = abs(utc(appended_ms) - made)
    assert decision.is_void(utc(appended_ms)) is (apart > timedelta(seconds=5))
    revoked = decision.model_copy(update={"decision": Decision.REVOKED})
    assert not revoked.is_void(utc(appended_ms))


@given(key=st.text(max_size=80), tail=st.text("\0", min_size=1, max_size=3))
def test_idempotency_keys_that_differ_in_trailing_zeros_differ(key: str, tail: str) -> None:
    """Two uploads with one id would be one upload."""
    one = idempotent_upload_id(Lane("shop"), AccountId("a"), key, 1)
    assert idempotent_upload_id(Lane("shop"), AccountId("a"), key + tail, 1) != one


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\xff\xd8", None),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\x89PNG\n\x1a\n", None),
        (b"RIFF\0\0\0\0WEBPVP8L", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"RIFF\0\0\0\0WEB", None),
        (b"GIF89a", None),
        (b"<svg/>", None),
        (b"", None),
    ],
)
def test_formats_are_detected_from_the_first_bytes(data: bytes, content_type: str | None) -> None:
    assert sniff_content_type(data) == content_type
    assert sniff_content_type(memoryview(data)) == content_type  # type: ignore[arg-type]


def test_failure_codes_are_exactly_these() -> None:
    """Adding one is a decision: customers see it."""
    assert [str(code) for code in FAILURE_CODES] == [
        "empty",
        "unsupported_format",
        "truncated",
        "corrupt",
        "too_large",
        "too_many_pixels",
        "animated",
        "invalid_account",
        "invalid_options",
        "invalid_event",
        "unsupported_version",
        "encoding_failed",
        "result_too_large",
        "processing_crashed",
        "processing_timeout",
        "expired",
        "malformed_batch",
        "not_sealed",
        "unknown_epoch",
        "future_epoch",
        "wrong_purpose",
        "wrong_context",
        "seal_broken",
    ]


def test_retained_images_name_their_grant_and_position() -> None:
    """The sink checks both."""
    retained = SAMPLES[3]
    assert isinstance(retained, Retained)
    headers = dict(to_wire(retained, source="/test").headers)
    assert GrantId(headers["ce_grant"].decode()) == retained.grant
    assert headers["ce_position"].decode() == str(retained.position)

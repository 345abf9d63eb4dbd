"""The fast decoder of decisions agrees with the model, and accepts nothing that it refuses."""

from collections.abc import Callable
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.codec.cloudevents import from_wire, to_wire
from erasestream.schemas.codec.consent_decision import (
    ParsedDecision,
    parse_canonical,
    read_decision,
)
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from tests.schemas.samples import SAMPLES

Pairs = list[tuple[str, bytes]]
Message = tuple[Pairs, bytes]
Change = Callable[[Message], Message]

TIMES = st.datetimes(timezones=st.just(UTC))
DECISIONS = st.builds(
    ConsentDecision,
    id=st.uuids().map(str),
    time=TIMES | TIMES.map(lambda time: time.replace(microsecond=0)),
    account=st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z"),
    decision=st.sampled_from(Decision),
    actor=st.from_regex(r"\A[A-Za-z0-9_.:-]{1,64}\Z"),
    channel=st.sampled_from(Channel),
    notice=st.none() | st.from_regex(r"\A[a-z0-9.-]{1,32}/[0-9a-f]{64}\Z"),
)
MESSAGES = DECISIONS.map(lambda event: tuple(to_wire(event, source="/lanes/shop/consent")))
LAST_MS = 253_402_300_799_000
"""The last second that Python knows."""
NAMES = [name for name, _ in to_wire(SAMPLES[4], source="/").headers]
ODD = [
    *(b"", b"\n", b"\xff", b"1.0", b"1x0", b"null", b"granted", b"_invalid", b"a" * 65, b"acct\n"),
    *(b"2026-02-30T00:00:00Z", b"2026-01-01T24:00:00Z", b"2026-01-01T23:59:60Z"),
    *(b"0000-01-01T00:00:00Z", b"2026-01-01T00:00:00.000001Z", b"2026-01-01T00:00:00.1234567Z"),
    *(b"2026-01-01T00:00:00", b"2026-01-01T00:00:00+01:00", b"1767323045", b"NaN"),
    *(b"019B7D2C-1D4E-7000-8000-00000000002A", b"019b7d2c-1d4e-7000-8000-00000000002a\n"),
    b"com.backgrounderase.consent.decided.v2",
    "\u0661\u0662".encode(),  # digits, but not ASCII
]


def change_header(name: str, new: bytes) -> Change:
    return lambda message: ([(n, new if n == name else v) for n, v in message[0]], message[1])


def change_byte(where: int, new: bytes, *, cut: int) -> Change:
    """Replace some bytes of the value."""

    def change(message: Message) -> Message:
        headers, value = message
        at = where % (len(value) + 1)
        return headers, value[:at] + new + value[at + cut :]

    return change


def change_header_byte(name: str, where: int, new: bytes) -> Change:
    def change(message: Message) -> Message:
        headers, value = message
        old = dict(headers).get(name, b"")
        at = where % (len(old) + 1)
        return change_header(name, old[:at] + new + old[at + 1 :])((headers, value))

    return change


def without(name: str) -> Change:
    return lambda message: ([pair for pair in message[0] if pair[0] != name], message[1])


def with_more(at: int, pair: tuple[str, bytes]) -> Change:
    """Insert a header, possibly a second one of its name."""
    return lambda message: ([*message[0][:at], pair, *message[0][at:]], message[1])


def renamed(old: str, new: str) -> Change:
    return lambda message: ([(new if n == old else n, v) for n, v in message[0]], message[1])


PLACES, BYTES = st.integers(0, 200), st.binary(max_size=2) | st.sampled_from(ODD)
CHANGES = st.one_of(
    st.builds(change_header, st.sampled_from(NAMES), BYTES),
    st.builds(change_byte, PLACES, BYTES, cut=st.integers(0, 20)),
    st.builds(change_header_byte, st.sampled_from(NAMES), PLACES, st.binary(max_size=2)),
    st.builds(without, st.sampled_from(NAMES)),
    st.builds(with_more, st.integers(0, 7), st.tuples(st.sampled_from([*NAMES, "x"]), BYTES)),
    st.builds(renamed, st.sampled_from(NAMES), st.sampled_from([*NAMES, "CE_ID", "ce_id "])),
    st.just(lambda message: (message[0][::-1], message[1])),
    st.sampled_from([b"[]", b"{}", b'{"decision":"granted"}', b"\xef\xbb\xbf{}", b"{" * 3000]).map(
        lambda value: lambda message: (message[0], value)
    ),
)


def decoded_by_the_model(message: Message) -> ParsedDecision | None:
    try:
        event = from_wire(ConsentDecision, *message)
    except InvalidEvent:
        return None
    return ParsedDecision(
        event.account.encode(), event.id, event.time, event.decision, event.channel
    )


def decoded_quickly(message: Message) -> ParsedDecision | None:
    try:
        return read_decision(*message)
    except InvalidEvent:
        return None


@given(MESSAGES)
def test_our_writers_produce_the_canonical_form(message: Message) -> None:
    """Otherwise every view would load slowly."""
    assert parse_canonical(*message) == decoded_by_the_model(message)
    assert parse_canonical(*message) is not None


@given(MESSAGES, st.lists(CHANGES, min_size=1, max_size=3))
def test_any_message_is_decoded_as_by_the_model(message: Message, changes: list[Change]) -> None:
    """Refused if the model refuses it, otherwise equal."""
    for change in changes:
        message = change(message)
    assert decoded_quickly(message) == decoded_by_the_model(message)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("odd", ODD)
def test_every_odd_value_in_every_header(name: str, odd: bytes) -> None:
    """Edge cases that a random search could miss."""
    wire = to_wire(SAMPLES[4], source="/lanes/shop/consent")
    message = change_header(name, odd)((wire.headers, wire.value))
    assert decoded_quickly(message) == decoded_by_the_model(message)


@given(DECISIONS, st.integers(0, LAST_MS), st.integers(-6000, 6000))
def test_both_agree_on_whether_a_grant_is_void(
    decision: ConsentDecision, appended_ms: int, lag_ms: int
) -> None:
    """At any time, and at the limit."""
    decided = read_decision(*to_wire(decision, source="/lanes/shop/consent"))
    made_ms = int(decision.time.timestamp() * 1000)
    limits = (made_ms + sign * 5000 + near for sign in (-1, 1) for near in (-1, 0, 1))
    for each in (appended_ms, made_ms + lag_ms, *limits):
        moment = min(max(each, 0), LAST_MS)
        assert decided.is_void(moment) == decision.is_void(utc(moment))

"""Parsing records of a fetch response: dense and truly numbered, whatever a client wrote."""

import struct

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder
from hypothesis import example, given
from hypothesis import strategies as st

from erasestream.pipeline.stages.inference.worker import record_parser
from erasestream.pipeline.stages.inference.worker.record_parser import (
    MAX_HEADERS_BYTES,
    Batch,
    Record,
    Records,
)
from erasestream.schemas.codec.cloudevents import MAX_HEADER_BYTES, attributes_of
from erasestream.schemas.errors import Code, InvalidEvent
from tests.raw_kafka import BatchHeader, batch, record, varint

NO_PRODUCER = (0, -1, -1, -1)
GZIP = 1
BASE = 4711

contents = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=40)), max_size=4),
    ),
    min_size=1,
    max_size=5,
)


def batch_of(
    rows: list[tuple[object, object, list[tuple[str, bytes | None]]]], codec: int
) -> bytes:
    """Return a batch as a broker stores it, with creation times from 1000 on."""
    builder = Builder(2, codec, *NO_PRODUCER, 1 << 20)
    for offset, (key, value, headers) in enumerate(rows):
        builder.append(offset, 1000 + offset, key, value, headers)  # type: ignore[arg-type]
    return bytes(builder.build())


def batches(records: Records) -> list[Batch]:
    """Return all whole batches."""
    found = []
    while batch := records.next_batch():
        found.append(batch)
    return found


def stored(data: bytes) -> Batch:
    """Return a batch that a broker appended at `BASE`."""
    (found,) = batches(Records(struct.pack(">q", BASE) + data[8:]))
    return found


@given(rows=contents, cut=st.integers(min_value=1, max_value=60))
def test_every_field_of_every_whole_batch_is_read(
    rows: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]], cut: int
) -> None:
    """A batch that is cut off is left out; keys are not kept."""
    data = batch_of(rows, 0)
    first, second = batches(Records(data * 2 + data[:cut]))
    assert first.validate_crc()
    expected = [
        Record(n, 1000 + n, 0, None, value, tuple(headers))
        for n, (_, value, headers) in enumerate(rows)
    ]
    assert list(first) == list(second) == expected


@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 3), min_size=1, max_size=4))
@example([0, 0])
@example([0, 2_000_000_000])
@example([0, -1])
@example([1, 0])
@example([0, 7])
@example([2, 3, 2])
def test_records_are_numbered_by_their_place_in_the_batch(deltas: list[int]) -> None:
    """If one claims another number, the client is not believed about any of them."""
    batch_found = stored(batch([record(delta, b"value", [("a", b"b")]) for delta in deltas]))
    found = list(batch_found)
    assert [each.offset for each in found] == list(range(BASE, BASE + len(deltas)))
    assert batch_found.next_offset == found[-1].offset + 1
    assert {each.headers for each in found} == {(("a", b"b"),)}
    is_honest = deltas == list(range(len(deltas)))
    verdicts = {(each.checksum, each.value) for each in found}
    assert verdicts == ({(None, b"value")} if is_honest else {(Code.MALFORMED_BATCH, None)})


@given(data=st.binary(max_size=200), count=st.integers(1, 20))
def test_bytes_that_are_no_records_fail_at_every_offset(data: bytes, count: int) -> None:
    """A broker stores no such batch; if it did, the partition would not be blocked."""
    found = list(stored(batch(data, BatchHeader(count=count))))
    assert [each.offset for each in found] == list(range(BASE, BASE + count))
    assert all(each.checksum or each.value is None or each.value in data for each in found)


@given(position=st.integers(0, 60), byte=st.integers(0, 255), headers=st.integers(0, 3).map(range))
def test_a_changed_byte_neither_raises_nor_shifts_an_offset(
    position: int, byte: int, headers: range
) -> None:
    rows = [record(n, b"value", [(f"h{i}", b"x") for i in headers]) for n in range(3)]
    data = bytearray(b"".join(rows))
    data[position % len(data)] = byte
    found = list(stored(batch(bytes(data), BatchHeader(count=3))))
    assert [each.offset for each in found] == [BASE, BASE + 1, BASE + 2]


def long_number(number: int) -> bytes:
    """Encode a number in five bytes, with bits that no 32-bit number has."""
    zigzag = ((number << 1) ^ (number >> 31)) & 0xFFFF_FFFF
    parts = [zigzag >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)]
    return bytes([*parts, zigzag >> 28 | 0x70])


LONG = b"\x55" + varint(0) + long_number(0) + varint(-1) + varint(3) + b"abc" + varint(0)
NEGATIVE = b"\0" + varint(0) * 2 + varint(-9) + varint(3) + b"abc" + varint(0)


@pytest.mark.parametrize("fields", [LONG, NEGATIVE], ids=["excess bits", "negative length"])
def test_a_record_that_only_the_broker_can_parse_is_refused(fields: bytes) -> None:
    """Kafka 4.4 stores it; librdkafka, with which the router reads it, never delivers it."""
    found = list(stored(batch([record(0, b"v"), varint(len(fields)) + fields])))
    assert [(each.offset, each.checksum) for each in found] == [
        (BASE, Code.MALFORMED_BATCH),
        (BASE + 1, Code.MALFORMED_BATCH),
    ]


def test_a_header_name_that_is_not_utf8_becomes_one_that_no_event_has() -> None:
    (found,) = stored(batch([record(0, b"v", [(b"\xff", b"x")])]))
    assert found.headers == (("\ufffd", b"x"),)


def test_millions_of_headers_are_not_read_one_by_one() -> None:
    """They are refused for their size, as one header without a name."""
    empty = varint(0) + varint(-1)
    body = b"\0" + varint(0) * 2 + varint(-1) + varint(1) + b"x"
    body += varint(2_000_000) + empty * 2_000_000
    (found,) = stored(batch([varint(len(body)) + body]))
    assert found.value == b"x"
    assert len(found.headers) == MAX_HEADERS_BYTES // len(empty) + 1
    with pytest.raises(InvalidEvent, match=str(MAX_HEADER_BYTES)):
        attributes_of(found.headers)


def test_a_batch_of_very_many_records_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_parser, "MAX_RECORDS", 2)
    for count, code in ((2, None), (3, Code.MALFORMED_BATCH)):
        found = list(stored(batch([record(n, b"v") for n in range(count)])))
        assert [each.checksum for each in found] == [code] * count


def test_a_compressed_batch_is_refused() -> None:
    """No decompressor sees a stranger's bytes: brokers store no such batches in our topics."""
    rows: list[tuple[object, object, list[tuple[str, bytes | None]]]]
    rows = [(None, bytes(100_000), [])] * 2
    found = list(stored(batch_of(rows, GZIP)))
    assert [(each.offset, each.value, each.checksum) for each in found] == [
        (BASE, None, Code.MALFORMED_BATCH),
        (BASE + 1, None, Code.MALFORMED_BATCH),
    ]


@pytest.mark.parametrize("data", [b"", bytes(60)])
def test_an_incomplete_batch_is_no_error(data: bytes) -> None:
    """The rest comes with the next response."""
    assert not Records(data).has_next()

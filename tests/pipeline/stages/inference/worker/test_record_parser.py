"""Parsing records of a fetch response."""

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.stages.inference.worker.record_parser import Batch, Record, Records
from tests.flow.raw_client import UndecodableName

NO_PRODUCER = (0, -1, -1, -1)
GZIP = 1

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


@given(rows=contents, cut=st.integers(min_value=1, max_value=60))
def test_every_field_of_every_whole_batch_is_read(
    rows: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]], cut: int
) -> None:
    """A batch that is cut off is left out."""
    data = batch_of(rows, 0)
    first, second = batches(Records(data * 2 + data[:cut]))
    assert first.validate_crc()
    expected = [
        Record(n, 1000 + n, 0, key, value, tuple(headers))
        for n, (key, value, headers) in enumerate(rows)
    ]
    assert list(first) == list(second) == expected


def test_a_header_name_that_is_not_utf8_becomes_one_that_no_event_has() -> None:
    (batch,) = batches(Records(batch_of([(None, b"v", [(UndecodableName(b"\xff"), b"x")])], 0)))
    assert [record.headers for record in batch] == [(("\ufffd", b"x"),)]


def test_a_compressed_batch_is_refused() -> None:
    """No decompressor sees a stranger's bytes: brokers store no such batches in our topics."""
    (batch,) = batches(Records(batch_of([(None, bytes(100_000), [])], GZIP)))
    with pytest.raises(CorruptRecordException):
        next(batch)


@pytest.mark.parametrize("data", [b"", bytes(60)])
def test_an_incomplete_batch_is_no_error(data: bytes) -> None:
    """The rest comes with the next response."""
    assert not Records(data).has_next()

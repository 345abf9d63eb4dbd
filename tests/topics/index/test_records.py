"""The fast decoder of the index agrees with the events; nonsense is skipped."""

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.image_index import ImageMarked, ImageState, ResultIndexed
from erasestream.topics.index.records import IndexedResult, Mark, read_record
from erasestream.topics.kafka.records import Partition, Record
from tests.schemas.samples import AT, GRANT, ID

SHA256 = "ab" * 32
RESULT = ResultIndexed(id=ID, owner=GRANT, offset=17, uploaded_at=AT, reference_sha256=SHA256)
RAW_ID = bytes.fromhex(ID.replace("-", ""))


def record_of(event: ResultIndexed | ImageMarked) -> Record:
    wire = to_wire(event, source="/test")
    return Record(Partition("index.shop", 3), 9, 1_780_000_000_000, None, wire.headers, wire.value)


@pytest.mark.parametrize("code", [None, "truncated"])
@pytest.mark.parametrize("retained", [True, False])
def test_a_result_is_read(code: str | None, retained: bool) -> None:
    event = RESULT.model_copy(update={"code": code, "retained": retained})
    assert read_record(record_of(event)) == IndexedResult(
        key=RAW_ID,
        owner=bytes.fromhex(GRANT.replace("-", "")),
        partition=3,
        offset=17,
        uploaded_ms=round(AT.timestamp() * 1000),
        code=code,
        is_retained=retained,
        reference=bytes.fromhex(SHA256)[:16],
    )


@pytest.mark.parametrize("state", list(ImageState))
def test_a_mark_is_read(state: ImageState) -> None:
    event = ImageMarked(id=ID, time=AT, owner=GRANT, state=state, retained=True)
    assert read_record(record_of(event)) == Mark(RAW_ID, state, 1_780_000_000_000, True)


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"[]", b"nonsense", b"\xff", b'{"owner":1,"uploaded_at":2}']
)
@pytest.mark.parametrize("kind", [ResultIndexed, ImageMarked])
def test_nonsense_is_skipped(value: bytes, kind: type[ResultIndexed | ImageMarked]) -> None:
    record = record_of(RESULT)
    headers = [each for each in record.headers if each[0] != "ce_type"]
    headers.append(("ce_type", kind.type.encode()))
    assert read_record(record._replace(headers=headers, value=value)) is None
    assert read_record(record._replace(headers=[])) is None

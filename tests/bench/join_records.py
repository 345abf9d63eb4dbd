"""Results, and the uploads that they are of, as encoded records for the join's benchmarks."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.base import Event, Position
from erasestream.schemas.events.images import Cutout, Upload
from erasestream.schemas.ids import AccountId, Lane, UploadId, new_upload_id
from erasestream.topics.catalog.topic_names import uploads_of

PARTITIONS = 8
NOT_OPTED_IN = AccountId("never-opted-in")
PNG = b"\x89PNG\r\n\x1a\n"


class EncodedRecord(NamedTuple):
    """A record before it is written."""

    partition: int
    headers: list[tuple[str, bytes]]
    value: bytes


class ResultFactory:
    """Encodes results whose uploads have dense offsets, as inference writes them."""

    def __init__(self, topic_ids: Mapping[str, str]) -> None:
        """`topic_ids`: the id of each uploads topic."""
        self._topic_ids = topic_ids
        self._next_offsets: Counter[tuple[Lane, int]] = Counter()

    def results(
        self, lane: Lane, count: int, image: bytes, account_of: Callable[[int], AccountId]
    ) -> list[EncodedRecord]:
        """Encode new results, spread over the partitions."""
        return [self._result(lane, n % PARTITIONS, image, account_of(n)) for n in range(count)]

    def _result(
        self, lane: Lane, partition: int, image: bytes, account: AccountId
    ) -> EncodedRecord:
        offset = self._next_offsets[lane, partition]
        self._next_offsets[lane, partition] += 1
        now = datetime.now(UTC)
        cutout = Cutout(
            id=new_upload_id(partition, offset.to_bytes(10, "big")),
            time=now,
            account=account,
            position=Position(
                topic_id=self._topic_ids[uploads_of(lane)], partition=partition, offset=offset
            ),
            uploaded_at=now,
            content_type="image/png",
            model="none",
            model_sha256="0" * 64,
            model_version="1",
            data=image,
        )
        return _encode(partition, cutout)


def upload_of(result: EncodedRecord, image: bytes) -> EncodedRecord:
    """Encode the upload that a result is of."""
    headers = dict(result.headers)
    upload = Upload(
        id=UploadId(headers["ce_id"].decode()),
        time=datetime.now(UTC),
        account=AccountId(headers["ce_account"].decode()),
        content_type="image/png",
        data=image,
    )
    return _encode(result.partition, upload)


def picture(size: int) -> bytes:
    """Return incompressible bytes of this size that begin like a PNG."""
    return PNG + os.urandom(size - len(PNG))


def _encode(partition: int, event: Event) -> EncodedRecord:
    wire = to_wire(event, source="/bench")
    return EncodedRecord(partition, wire.headers, wire.value)

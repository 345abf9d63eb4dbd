"""Parts of an encryption stage on a real broker, whose consent view gets an outdated mark."""

import secrets
import threading
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Protocol

from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import GrantId, Lane, UploadId, new_upload_id
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Partition
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import ACCOUNT, OWNER, writer


class Retain(Protocol):
    """Writes a picture for the sink, as the router does."""

    def __call__(self, lane: Lane, grant: GrantId, mark: str, *, size: int = 6) -> UploadId:
        """Return the id of its upload."""


class OutdatedView(ConsentView):
    """A view that gets the mark of an empty topic, as from a deposed leader, or none."""

    unreachable: frozenset[Lane] = frozenset()

    def marks(self, lanes: Collection[Lane], *, timeout_s: float) -> dict[Lane, Mark]:
        marks = super().marks(lanes, timeout_s=timeout_s)
        reachable = marks.keys() - self.unreachable
        return {lane: dict.fromkeys(marks[lane], 0) for lane in reachable}


class RecordingSink(EncryptionSink):
    """Records the grants of the pictures that it is given."""

    def __init__(self) -> None:
        self.grants: list[GrantId] = []
        self.failure: ErasestreamError | None = None
        """Raised once, instead of storing a picture."""
        self.gates: list[threading.Event] = []
        """The first calls wait for one each."""

    def store(self, event: Retained) -> None:  # type: ignore[override]
        failure, self.failure = self.failure, None
        if failure:
            raise failure
        gate = self.gates.pop(0) if self.gates else None
        if gate:
            assert gate.wait(60)
        self.grants.append(event.grant)

    def assert_not_erased(self, grant: GrantId) -> None:
        pass

    def drop_dead_keys(self) -> None:
        pass


def picture(lane: Lane, grant: GrantId, mark: str, size: int = 6) -> Retained:
    now = datetime.now(UTC)
    return Retained(
        id=new_upload_id(1, secrets.token_bytes(10)),
        time=now,
        lane=lane,
        account=ACCOUNT,
        part=Part.ORIGINAL,
        grant=grant,
        mark=mark,
        position=Position(topic_id="A" * 22, partition=0, offset=7),
        uploaded_at=now,
        content_type="image/png",
        data=bytes(size),
    )


def delete_retained(kafka: KafkaFixture) -> None:
    """Delete all records of `retained`, those of other tests too."""
    partitions = kafka.catalog()[RETAINED].partitions
    places = [Partition(RETAINED, number) for number in range(partitions)]
    kafka.delete_records(kafka.offsets.log_ends(places))


def granted(kafka: KafkaFixture, lane: Lane) -> tuple[GrantId, str]:
    """Grant; return the grant and a mark that covers it."""
    writes = writer(kafka, lane)
    grant = writes.grant(ACCOUNT, **OWNER).grant
    assert grant
    ((at, end),) = writes.reader.end_mark(ACCOUNT).items()
    return grant, f"{at.number}/{end}"

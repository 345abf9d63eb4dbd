"""A router over brokers and a view in memory, those of the state machine."""

from collections.abc import Iterable
from datetime import timedelta

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.images import Cutout, Failure, Part, Retained, Upload
from erasestream.schemas.ids import AccountId
from erasestream.topics.catalog.topic_names import RETAINED, uploads_of
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from tests.pipeline.stages.routing.join_brokers import (
    CATALOG,
    LANE,
    PARTITIONS,
    SKEW_MS,
    FakeBrokers,
)
from tests.pipeline.stages.routing.join_members import RouterProcess

ANN = AccountId("ann")
PHOTO, CUTOUT = b"\xff\xd8\xff photo", b"\x89PNG\r\n\x1a\n cut-out"
LIMIT = timedelta(seconds=CATALOG.lanes[0].times.backlog_limit_s)


class RouterHarness:
    """One router over brokers in memory."""

    def __init__(self) -> None:
        self.brokers = FakeBrokers()
        self.process = RouterProcess(self.brokers, "first")
        self.process.assign(PARTITIONS)
        self.router = self.process.router

    def opt_in(self, account: AccountId = ANN) -> None:
        """Grant, so that later uploads are surely retained."""
        self.brokers.decide(account, Decision.GRANTED, late_ms=0)
        self.brokers.now_ms += 4 * SKEW_MS + 1
        self.process.view.apply_below(self.process.view.mark())

    def upload(
        self,
        account: AccountId = ANN,
        content_type: str = "image/jpeg",
        *,
        never_retain: bool | None = None,
    ) -> Upload:
        """Append a photo to partition 0; with the content type of sealed ones, as such."""
        event = Upload(
            id=self.brokers.new_event_id(),
            time=self.brokers.time(),
            account=account,
            content_type=content_type,
            never_retain=never_retain,
            data=PHOTO,
        )
        log = self.brokers.uploads[0]
        log.append(self.brokers.record(Partition(uploads_of(LANE), 0), len(log), None, event))
        return event

    def result(
        self,
        upload: Upload,
        offset: int,
        *,
        failed: bool = False,
        content_type: str = "image/webp",
        capsule: bytes | None = None,
    ) -> Record:
        """Return the result of an upload, as inference writes it."""
        common = {
            "id": upload.id,
            "time": self.brokers.time(),
            "account": upload.account,
            "position": Position(topic_id=self.brokers.topic_id, partition=0, offset=offset),
            "uploaded_at": upload.time,
        }
        event: Cutout | Failure
        if failed:
            event = Failure(**common, code="corrupt", sentence="Damaged.")
        else:
            event = Cutout(
                **common,
                content_type=content_type,
                capsule=capsule,
                model="tiny",
                model_sha256="0" * 64,
                model_version="1",
                data=CUTOUT,
            )
        return self.brokers.record(PARTITIONS[0], offset, None, event)

    def route(self, record: Record) -> list[Outgoing]:
        return self.router.handle(record)


def retained_in(outgoing: Iterable[Outgoing]) -> dict[Part, Retained]:
    """Return the images for the encryption sink."""
    events = [from_wire(Retained, o.headers, o.value) for o in outgoing if o.topic == RETAINED]
    parts = {event.part: event for event in events}
    assert len(parts) == len(events)
    return parts

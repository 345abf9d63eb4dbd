"""Requests to erase single uploads: who may write them, and how far they are."""

from contextlib import closing
from datetime import UTC, datetime

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import InvalidEvent, NotAuthorized, Refused
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.ledger import UploadErased, UploadErasureState
from erasestream.schemas.ids import AccountId, Lane, UploadId, new_upload_id
from erasestream.topics.catalog.roles import ERASER, OPERATOR, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import erasures_of
from erasestream.topics.consent.erasure_requests import ErasureRequests
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.upload_erasures import UploadErasures
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import (
    ACCOUNT,
    OWNER,
    ledger_partitions,
    write_as,
    writer,
)

UPLOAD = "listing-4711 é"
TIMES = [datetime(2026, 11, 30, hour, tzinfo=UTC) for hour in (1, 2)]


def requests(kafka: KafkaFixture, lane: Lane) -> ErasureRequests:
    """Open the requests as the lane's account service."""
    return ErasureRequests(
        connection=kafka.connection(lane_role(lane, LaneRole.ACCOUNT)), lane=lane
    )


def test_how_far_a_request_is(kafka: KafkaFixture, lane: Lane) -> None:
    """It is recorded at once, then confirmed, then gone; entries may be repeated."""
    with closing(requests(kafka, lane)) as opened, closing(writer(kafka, lane)) as reading:
        erasures = UploadErasures(reading.reader, lane, ACCOUNT)
        assert erasures.now() == []
        first = opened.request(ACCOUNT, UPLOAD, **OWNER)
        other = opened.request(ACCOUNT, UPLOAD, **OWNER)
        opened.request("another", UPLOAD, **OWNER)
        shown = erasures.now()
        assert [each.request for each in shown] == [first.id, other.id]
        assert (shown[0].upload, shown[0].recorded) == (UPLOAD, first.at)
        assert (shown[0].confirmed, shown[0].gone, shown[0].objects) == (None, None, None)
        for objects, (time, state) in enumerate(zip(TIMES, UploadErasureState, strict=True)):
            write_entry(kafka, lane, first.id, time, state, objects)
            write_entry(kafka, lane, first.id, TIMES[-1], state, objects + 7)
        shown = erasures.now()
        assert (shown[0].confirmed, shown[0].gone, shown[0].objects) == (*TIMES, 1)
        assert shown[1].confirmed is None


def write_entry(
    kafka: KafkaFixture,
    lane: Lane,
    request: str,
    time: datetime,
    state: UploadErasureState,
    objects: int,
) -> None:
    """Write an entry as the eraser does."""
    entry = UploadErased(
        id=new_upload_id(objects, bytes(10)),
        time=time,
        lane=lane,
        account=ACCOUNT,
        upload=UploadId(UPLOAD),
        request=request,
        recorded=time,
        stored_as="ab" * 32,
        objects=objects,
        objects_root="ab" * 32,
        state=state,
    )
    at, key = place(erasures_of(lane), AccountId(ACCOUNT), ledger_partitions(kafka, lane))
    write_as(kafka, ERASER, at, key, to_wire(entry, source="/eraser"))


def test_only_the_account_service_may_ask(kafka: KafkaFixture, lane: Lane) -> None:
    """Neither an operator nor another lane's account service."""
    other = kafka.open_lane()
    for role in (OPERATOR, lane_role(other, LaneRole.ACCOUNT), lane_role(lane, LaneRole.PRODUCER)):
        with pytest.raises(NotAuthorized):
            ErasureRequests(connection=kafka.connection(role), lane=lane)


def test_what_can_be_no_request(kafka: KafkaFixture, lane: Lane) -> None:
    """Ids that no upload or account can have, and the operators' channel, are refused."""
    with closing(requests(kafka, lane)) as opened:
        with pytest.raises(InvalidEvent):
            opened.request("a/b", UPLOAD, **OWNER)
        with pytest.raises(InvalidEvent):
            opened.request(ACCOUNT, "a\nb", **OWNER)
        with pytest.raises(Refused):
            opened.request(ACCOUNT, UPLOAD, actor="ann", channel=Channel.OPERATOR)

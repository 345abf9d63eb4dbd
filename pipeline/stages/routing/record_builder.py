"""Build the records that the router writes.  Pure."""

from datetime import datetime

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.codec.result_headers import CAPSULE
from erasestream.schemas.errors import Code
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Failure, Part, Result, Retained, Upload
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.schemas.ids import GrantId, Lane, upload_id_of_position
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.schemas.sealing.content_type import is_sealed
from erasestream.topics.catalog.topic_names import LEDGER, RETAINED, ephemeral_of, uploads_of
from erasestream.topics.kafka.records import Outgoing, Record


def ephemeral_record(lane: Lane, record: Record, *, has_capsule: bool) -> Outgoing:
    """Return the result as inference wrote it, in the ephemeral partition of the same number.

    Without its capsule: the sink must not be able to open what no grant keeps.
    """
    headers = record.headers
    if has_capsule:
        headers = [each for each in headers if each[0] != CAPSULE]
    return Outgoing(ephemeral_of(lane), record.at.number, None, headers, record.value)


def expired_record(lane: Lane, result: Result, now: datetime) -> Outgoing:
    """Return the failed result *expired* in place of a result, in the same partition."""
    event = Failure.in_place_of(result, Code.EXPIRED, now)
    wire = to_wire(event, source=f"/lanes/{lane}/router")
    return Outgoing(ephemeral_of(lane), result.position.partition, None, wire.headers, wire.value)


def retained_record(
    lane: Lane, cutout: Cutout, image: Upload | Cutout, *, grant: GrantId, mark: str, now: datetime
) -> Outgoing:
    """Return one image of a retained upload, for the encryption sink.

    `mark`: how far the decisions of the account's partition were applied.
    """
    event = Retained.model_construct(
        id=cutout.id,
        time=now,
        lane=lane,
        account=cutout.account,
        part=Part.CUTOUT if image is cutout else Part.ORIGINAL,
        grant=grant,
        mark=mark,
        position=cutout.position,
        uploaded_at=cutout.uploaded_at,
        content_type=_content_type(image),
        capsule=cutout.capsule,
        data=image.data,
    )
    wire = to_wire(event, source="/router")
    return Outgoing(RETAINED, -1, cutout.id.encode(), wire.headers, wire.value)


def _content_type(image: Upload | Cutout) -> str:
    if is_sealed(image.content_type):
        return image.content_type
    # By the image's bytes: a stranger wrote its headers.
    return sniff_content_type(image.data) or "application/octet-stream"


def gap_finding(
    kind: FindingKind, lane: Lane, position: Position, missing: str, now: datetime
) -> Outgoing:
    """Return the ledger's entry about uploads that are missing before this one.

    Not the lane's ledger: its account service can write there, and a batch with the router's
    producer id and a later epoch would fence the router at its next write in that partition.
    """
    event = Finding(
        id=upload_id_of_position(position.topic_id, position.partition, position.offset),
        time=now,
        kind=kind,
        detail=f"{missing} before {uploads_of(lane)} {position}",
    )
    wire = to_wire(event, source="/router")
    return Outgoing(LEDGER, -1, str(lane).encode(), wire.headers, wire.value)

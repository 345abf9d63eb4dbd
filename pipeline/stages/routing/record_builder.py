"""Build the records that the router writes.  Pure."""

import hashlib
from datetime import datetime

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.codec.result_headers import CAPSULE
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.image_index import ResultIndexed
from erasestream.schemas.events.images import Cutout, Failure, Part, Result, Retained, Upload
from erasestream.schemas.events.ledger import Finding, FindingKind, UploadHeld
from erasestream.schemas.ids import GrantId, Lane, image_key, owner_key, upload_id_of_position
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.schemas.sealing.content_type import is_sealed
from erasestream.topics.catalog.topic_names import (
    LEDGER,
    RETAINED,
    ephemeral_of,
    index_of,
    uploads_of,
)
from erasestream.topics.consent.ledger_place import Place
from erasestream.topics.kafka.records import Outgoing, Record


def ephemeral_record(lane: Lane, record: Record, *, has_capsule: bool) -> Outgoing:
    """Return the result as inference wrote it, in the ephemeral partition of the same number.

    Without its capsule: the sink must not be able to open what no grant keeps.
    """
    headers = record.headers
    if has_capsule:
        headers = [each for each in headers if each[0] != CAPSULE]
    return Outgoing(ephemeral_of(lane), record.at.number, None, headers, record.value)


def failed_record(lane: Lane, failure: Failure) -> Outgoing:
    """Return a failed result in place of another result, in the same partition."""
    wire = to_wire(failure, source=_source(lane))
    at = failure.position.partition
    return Outgoing(ephemeral_of(lane), at, None, wire.headers, wire.value)


def with_index(
    delivered: Outgoing, lane: Lane, result: Result, *, is_retained: bool = False
) -> Outgoing:
    """Return the record of a result, followed by one that tells the lane's gateways where it is."""
    entry = ResultIndexed(
        id=image_key(lane, result.account, result.id),
        owner=owner_key(lane, result.account),
        offset=0,
        uploaded_at=result.uploaded_at,
        code=result.code if isinstance(result, Failure) else None,
        retained=is_retained,
        reference_sha256=None if result.reference is None else _sha256(result.reference),
    )

    def at_offset(offset: int) -> Outgoing:
        wire = to_wire(entry.model_copy(update={"offset": offset}), source=_source(lane))
        return Outgoing(index_of(lane), delivered.partition, None, wire.headers, wire.value)

    return delivered._replace(follow_up=at_offset)


def _source(lane: Lane) -> str:
    return f"/lanes/{lane}/router"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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


def held_record(
    place: Place, lane: Lane, cutout: Cutout, *, grant: GrantId, now: datetime
) -> Outgoing:
    """Return the record that counts a retained upload."""
    position = cutout.position
    event = UploadHeld(
        id=upload_id_of_position(*position),
        time=now,
        lane=lane,
        account=cutout.account,
        grant=grant,
        position=position,
        uploaded_at=cutout.uploaded_at,
        image=image_key(lane, cutout.account, cutout.id),
    )
    wire = to_wire(event, source="/router")
    return Outgoing(*place.at, place.key, wire.headers, wire.value)


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

"""The rows of the report: what its template shows, computed from the observations."""

import base64
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from erasestream.pipeline.demo.observations import (
    KeyLife,
    Observations,
    StoredPicture,
    TopicContents,
    UploadTrace,
)
from erasestream.pipeline.demo.photos import Photo
from erasestream.pipeline.demo.scenario import Sender
from erasestream.pipeline.demo.screenshots import Screenshots
from erasestream.pipeline.stages.inference.imaging.preview import preview
from erasestream.schemas.errors import InvalidImage
from erasestream.schemas.events.images import Failure, Part

PHOTO_PX = 640
THUMBNAIL_PX = 200
"""Longer sides of the pictures in the report, twice their displayed size."""
HEX_ROW_BYTES = 16
TOPIC_ORDER = ("uploads", "cutouts", "ephemeral", "retained", "consent", "ledger", "erasures")
"""Topics in the order in which an image reaches them."""

SPAN_TITLES = {
    "send": "upload to broker",
    "wait": "waiting for a free core",
    "decode": "decode",
    "resize": "resize",
    "infer": "infer",
    "compose": "compose",
    "arrange": "arrange",
    "encode": "encode",
    "route": "ask for consent, route",
    "deliver": "deliver",
}
"""Titles of the spans of an upload, in the order of the legend."""


class BarSegment(NamedTuple):
    """A part of a bar, in percent of the longest one."""

    key: str
    title: str
    value: str
    percent: float


class UploadRow(NamedTuple):
    """One upload of a photo."""

    sender: Sender
    reference: str
    is_retained: bool
    bar: list[BarSegment]
    total: str
    failure: str


class PhotoCard(NamedTuple):
    """A photo and its uploads."""

    name: str
    photo: str
    cutout: str
    uploads: list[UploadRow]


class TopicRow(NamedTuple):
    """A topic; without a total it holds no image."""

    name: str
    records: int
    bar: list[BarSegment]
    total: str


class BrokerRow(NamedTuple):
    """The first image of a topic on the broker's disk."""

    topic: str
    file: str
    head: str


class ObjectRow(NamedTuple):
    """A retained picture, sealed and opened."""

    stored: StoredPicture
    picture: str
    head: str
    body: str


def photo_cards(observed: Observations) -> list[PhotoCard]:
    """Return a card for each photo, in the order of the uploads."""
    slowest_ms = max((_total_ms(upload) for upload in observed.uploads), default=1.0)
    names = [upload.order.photo.name for upload in observed.uploads]
    by_photo = sorted(observed.uploads, key=lambda upload: names.index(upload.order.photo.name))
    return [
        _photo_card(photo, list(uploads), max(slowest_ms, 1.0))
        for photo, uploads in groupby(by_photo, key=lambda upload: upload.order.photo)
    ]


def _photo_card(photo: Photo, uploads: list[UploadTrace], slowest_ms: float) -> PhotoCard:
    cutouts = [upload.cutout.data for upload in uploads if upload.cutout]
    return PhotoCard(
        name=photo.name,
        photo=_data_uri(photo.data, PHOTO_PX),
        cutout=_data_uri(cutouts[0], PHOTO_PX) if cutouts else "",
        uploads=[_upload_row(upload, slowest_ms) for upload in uploads],
    )


def _upload_row(upload: UploadTrace, slowest_ms: float) -> UploadRow:
    event = upload.result.event
    return UploadRow(
        sender=upload.order.sender,
        reference=upload.order.reference,
        is_retained=upload.retained > 0,
        bar=[
            BarSegment(
                span.name,
                SPAN_TITLES.get(span.name, span.name),
                _format_ms(span.ms),
                100 * span.ms / slowest_ms,
            )
            for span in upload.spans
        ],
        total=_format_ms(_total_ms(upload)),
        failure=f"{event.code}: {event.sentence}" if isinstance(event, Failure) else "",
    )


def _total_ms(upload: UploadTrace) -> float:
    return sum(span.ms for span in upload.spans)


def topic_rows(topics: Sequence[TopicContents], promise_s: float) -> list[TopicRow]:
    """Return a row for each topic, in the order in which an image reaches them."""
    ordered = sorted(topics, key=lambda each: _place(each.name))
    return [_topic_row(topic, promise_s) for topic in ordered]


def _place(topic: str) -> int:
    kind = topic.partition(".")[0]
    return TOPIC_ORDER.index(kind) if kind in TOPIC_ORDER else len(TOPIC_ORDER)


def _topic_row(topic: TopicContents, promise_s: float) -> TopicRow:
    life = topic.lifetime
    if life is None:
        return TopicRow(topic.name, topic.records, [], "")
    parts = {
        "age": ("age when appended", life.age_when_appended_s),
        "retention": ("retention", life.retention_s),
        "segment": ("segment", life.segment_s),
        "delete": ("check and deletion", life.check_interval_s + life.delete_delay_s),
    }
    bar = [
        BarSegment(key, title, format_hours(value), 100 * value / promise_s)
        for key, (title, value) in parts.items()
    ]
    return TopicRow(topic.name, topic.records, bar, format_hours(life.worst_age_s))


def broker_rows(observed: Observations) -> list[BrokerRow]:
    """Return a row for each topic with images, in the order in which an image reaches them."""
    ordered = sorted(observed.on_broker, key=lambda each: _place(each.topic))
    return [BrokerRow(each.topic, each.file, _hex_dump(each.head, each.at)) for each in ordered]


def key_bar(keys: KeyLife) -> list[BarSegment]:
    """Return the life of the keys, from their publication until they are destroyed."""
    parts = (
        ("age", "published ahead", keys.begins - keys.published),
        ("segment", "uploads of this hour", keys.ends - keys.begins),
        ("retention", "opens what was uploaded", keys.dies - keys.ends),
        ("delete", "destroyed, and verified", keys.destroyed - keys.dies),
    )
    whole = keys.destroyed - keys.published
    return [
        BarSegment(key, title, format_hours(span.total_seconds()), 100 * (span / whole))
        for key, title, span in parts
    ]


def object_rows(observed: Observations) -> list[ObjectRow]:
    """Return a row for each stored picture, in the order of the uploads; photos first."""
    places = {upload.upload_id: place for place, upload in enumerate(observed.uploads)}
    ordered = sorted(
        observed.stored,
        key=lambda each: (places.get(each.upload_id, len(places)), each.part is Part.CUTOUT),
    )
    return [_object_row(stored) for stored in ordered]


def _object_row(stored: StoredPicture) -> ObjectRow:
    return ObjectRow(
        stored=stored,
        picture=_data_uri(stored.opened, THUMBNAIL_PX),
        head=_hex_dump(stored.head, 0),
        body=_hex_dump(stored.body, stored.body_at),
    )


def screenshot_rows(screenshots: Screenshots) -> Iterator[tuple[str, str]]:
    """Yield the title and the picture of each screenshot."""
    for title, png in screenshots.pictures:
        yield title, f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _data_uri(data: bytes, longest_px: int) -> str:
    """Return a data URI of a preview; empty if the bytes are not an image."""
    try:
        small = preview(data, longest=longest_px)
    except InvalidImage:
        return ""
    return f"data:image/webp;base64,{base64.b64encode(small).decode()}"


def _hex_dump(data: bytes, start: int) -> str:
    """Return rows of address, hexadecimal and printable characters."""
    return "\n".join(_hex_rows(data, start))


def _hex_rows(data: bytes, start: int) -> Iterator[str]:
    for at in range(0, len(data), HEX_ROW_BYTES):
        row = data[at : at + HEX_ROW_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)  # noqa: PLR2004
        yield f"{start + at:04x}  {row.hex(' '):<47}  {text}"


def _format_ms(value: float) -> str:
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms"  # noqa: PLR2004


def format_hours(seconds: float) -> str:
    """Return hours and minutes, such as 18:38."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d}"

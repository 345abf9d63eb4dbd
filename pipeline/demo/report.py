"""The report: one HTML file that needs nothing else, with every picture in it.

Pictures are shown small; the files themselves lie beside the report.
"""

import base64
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from erasestream.pipeline.demo.checks import Check, checks
from erasestream.pipeline.demo.observations import Journey, Observations, Stored, TopicFound
from erasestream.pipeline.demo.photos import Photo
from erasestream.pipeline.demo.scenario import OPTED_IN, SENDERS, Sender
from erasestream.pipeline.stages.inference.imaging.preview import preview
from erasestream.schemas.errors import InvalidImage
from erasestream.schemas.events.images import Failure, Part

HERE = Path(__file__).parent
TEMPLATE = "report.html"
FLOW = "flow.svg"

CARD_PX = 640
THUMBNAIL_PX = 200
"""Longer sides of the pictures in the report, twice what they are shown at."""
ROW_BYTES = 16
KINDS = ("uploads", "cutouts", "ephemeral", "retained", "consent", "ledger")

LAPS = {
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
"""What the parts of a journey are called; the order of the legend."""


class Bar(NamedTuple):
    """A part of a bar, in percent of the longest one."""

    key: str
    title: str
    value: str
    percent: float


class Trip(NamedTuple):
    """One upload of a photo, as a row."""

    sender: Sender
    reference: str
    is_kept: bool
    bars: list[Bar]
    total: str
    problem: str


class Card(NamedTuple):
    """A photo with everything that became of it."""

    name: str
    photo: str
    cutout: str
    trips: list[Trip]


class TopicRow(NamedTuple):
    """A topic; without a sum it holds no image."""

    name: str
    records: int
    bars: list[Bar]
    total: str


class ObjectRow(NamedTuple):
    """A retained picture, sealed and opened."""

    found: Stored
    picture: str
    head: str
    body: str


def write(path: Path, evidence: Observations) -> Path:
    """Write the report; returns its path."""
    path.write_text(render(evidence), encoding="utf-8")
    return path


def render(evidence: Observations) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    found: Sequence[Check] = checks(evidence)
    return environment.get_template(TEMPLATE).render(
        evidence=evidence,
        checks=found,
        failing=[check for check in found if not check.holds],
        # Our own file, not somebody's text.
        flow=Markup((HERE / FLOW).read_text(encoding="utf-8")),  # noqa: S704
        cards=_cards(evidence),
        laps=LAPS,
        topics=[
            _topic(topic, evidence.promise.promise_s) for topic in _as_it_flows(evidence.topics)
        ],
        objects=[_object(each) for each in _in_order(evidence)],
        opted_in=OPTED_IN,
        others=[sender for sender in SENDERS if sender is not OPTED_IN],
        promise=_hours(evidence.promise.promise_s),
        reserve=_hours(evidence.promise.reserve_s),
        budget_percent=100 * evidence.promise.budget_s / evidence.promise.promise_s,
    )


def _cards(evidence: Observations) -> list[Card]:
    slowest = max((sum(lap.ms for lap in j.laps) for j in evidence.journeys), default=1.0)
    by_photo = sorted(evidence.journeys, key=lambda journey: _first(evidence, journey))
    return [
        _card(photo, list(journeys), max(slowest, 1.0))
        for photo, journeys in groupby(by_photo, key=lambda journey: journey.order.photo)
    ]


def _first(evidence: Observations, journey: Journey) -> int:
    """The place of a photo among all."""
    names = [each.order.photo.name for each in evidence.journeys]
    return names.index(journey.order.photo.name)


def _card(photo: Photo, journeys: list[Journey], slowest_ms: float) -> Card:
    cutouts = [journey.cutout.data for journey in journeys if journey.cutout]
    return Card(
        name=photo.name,
        photo=_picture(photo.data, CARD_PX),
        cutout=_picture(cutouts[0], CARD_PX) if cutouts else "",
        trips=[_trip(journey, slowest_ms) for journey in journeys],
    )


def _trip(journey: Journey, slowest_ms: float) -> Trip:
    event = journey.taken.event
    return Trip(
        sender=journey.order.sender,
        reference=journey.order.reference,
        is_kept=journey.kept > 0,
        bars=[
            Bar(lap.name, LAPS.get(lap.name, lap.name), _ms(lap.ms), 100 * lap.ms / slowest_ms)
            for lap in journey.laps
        ],
        total=_ms(sum(lap.ms for lap in journey.laps)),
        problem=f"{event.code}: {event.sentence}" if isinstance(event, Failure) else "",
    )


def _as_it_flows(topics: Sequence[TopicFound]) -> list[TopicFound]:
    """The topics in the order in which an image meets them."""
    places = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(topics, key=lambda each: places.get(each.name.partition(".")[0], len(places)))


def _topic(topic: TopicFound, promise_s: float) -> TopicRow:
    life = topic.lifetime
    if life is None:
        return TopicRow(topic.name, topic.records, [], "")
    parts = {
        "age": ("age when appended", life.age_when_appended_s),
        "retention": ("retention", life.retention_s),
        "segment": ("segment", life.segment_s),
        "delete": ("check and deletion", life.check_interval_s + life.delete_delay_s),
    }
    bars = [
        Bar(key, title, _hours(value), 100 * value / promise_s)
        for key, (title, value) in parts.items()
    ]
    return TopicRow(topic.name, topic.records, bars, _hours(life.worst_age_s))


def _in_order(evidence: Observations) -> list[Stored]:
    """What is stored, in the order of the uploads; of each the photo first."""
    places = {journey.upload_id: place for place, journey in enumerate(evidence.journeys)}
    return sorted(
        evidence.stored,
        key=lambda each: (places.get(each.upload_id, len(places)), each.part is Part.CUTOUT),
    )


def _object(found: Stored) -> ObjectRow:
    return ObjectRow(
        found=found,
        picture=_picture(found.opened, THUMBNAIL_PX),
        head=_hex(found.head, 0),
        body=_hex(found.body, found.body_at),
    )


def _picture(data: bytes, longest: int) -> str:
    """A data URI of a preview; empty for what can not be shown."""
    try:
        small = preview(data, longest=longest)
    except InvalidImage:
        return ""
    return f"data:image/webp;base64,{base64.b64encode(small).decode()}"


def _hex(data: bytes, start: int) -> str:
    """Rows of address, hexadecimal and printable characters."""
    return "\n".join(_hex_rows(data, start))


def _hex_rows(data: bytes, start: int) -> Iterator[str]:
    for at in range(0, len(data), ROW_BYTES):
        row = data[at : at + ROW_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)  # noqa: PLR2004
        yield f"{start + at:04x}  {row.hex(' '):<47}  {text}"


def _ms(value: float) -> str:
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms"  # noqa: PLR2004


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d}"

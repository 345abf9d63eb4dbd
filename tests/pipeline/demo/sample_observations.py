"""Sample observations: one account that opted in, one that did not, a photo each."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from PIL import Image

from erasestream.pipeline.demo.customers import ReceivedResult, SentUpload
from erasestream.pipeline.demo.observations import (
    AccessAttempt,
    BrokerBytes,
    KeyLife,
    ListedObject,
    Observations,
    RetainedRecord,
    SearchResult,
    StoredPicture,
    TopicContents,
    UploadTrace,
)
from erasestream.pipeline.demo.photos import Photo
from erasestream.pipeline.demo.scenario import NOT_OPTED_IN, OPTED_IN, Order, Sender
from erasestream.schemas.errors import SENTENCES, Code
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Failure, Part
from erasestream.schemas.ids import GrantId, UploadId
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.client.upload_producer import Receipt

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
GRANT = GrantId("00000000-0000-8000-8000-00000000000a")
NAME = "cup <b>&amp;</b> saucer.png"


def picture(mode: str = "RGB", shade: int = 200) -> bytes:
    """Return a small PNG."""
    file = io.BytesIO()
    Image.new(mode, (24, 16), (shade, 30, 30, 128)[: len(mode)]).save(file, "PNG")
    return file.getvalue()


def upload_id(number: int) -> UploadId:
    """Return the id of the n-th upload."""
    return UploadId(f"00000000-0000-7000-8000-{number:012}")


def upload_trace(
    number: int, sender: Sender, *, name: str = NAME, retained: int = 0
) -> UploadTrace:
    """Return an upload that took three seconds, two of them for inference."""
    photo = Photo(name, "image/png", picture())
    sent = SentUpload(
        order=Order(f"listing-{number}", sender, photo),
        sent_at=START,
        receipt=Receipt(
            upload_id=upload_id(number),
            partition=0,
            offset=number,
            appended_at=START + timedelta(seconds=0.1),
        ),
    )
    event = Cutout(
        id=upload_id(number),
        time=START + timedelta(seconds=2.5),
        account=sender.account,
        reference=sent.order.reference,
        position=Position(topic_id="A" * 22, partition=0, offset=number),
        uploaded_at=sent.receipt.appended_at,
        content_type="image/png",
        model="tiny",
        model_sha256="0" * 64,
        model_version="1",
        steps_ms={"decode": 10.0, "infer": 2000.0, "compose": 5.0, "encode": 15.0},
        data=picture("RGBA"),
    )
    result = ReceivedResult(
        lane=sender.lane,
        event=event,
        appended_at=START + timedelta(seconds=2.8),
        received_at=START + timedelta(seconds=3),
    )
    return UploadTrace(sent=sent, result=result, retained=retained)


def failed(upload: UploadTrace) -> UploadTrace:
    """Return the same upload with a failure as its result."""
    event = upload.result.event
    failure = Failure(
        **event.model_dump(include={"id", "time", "account", "reference", "uploaded_at"}),
        position=event.position,
        code=Code.TRUNCATED,
        sentence=SENTENCES[Code.TRUNCATED],
    )
    return replace(upload, result=replace(upload.result, event=failure))


def observations() -> Observations:
    """Return observations on which every check holds."""
    ours, theirs = upload_trace(1, OPTED_IN, retained=2), upload_trace(2, NOT_OPTED_IN)
    catalog = Catalog.build((LaneSpec(name=OPTED_IN.lane),))
    return Observations(
        started_at=START,
        total_s=42.0,
        model="tiny",
        policy=catalog.policy,
        uploads=[ours, theirs],
        results=2,
        skipped=0,
        granted_at=START,
        topics=[
            TopicContents(name=topic.name, records=3, lifetime=topic.lifetime)
            for topic in catalog.topics
        ],
        retained=[
            RetainedRecord(OPTED_IN.lane, OPTED_IN.account, ours.upload_id, part, GRANT)
            for part in Part
        ],
        listing=[ListedObject(f"owner/{part}", 1000, ours.upload_id, part) for part in Part],
        stored=list(_stored(ours)),
        pixels_in_bucket=SearchResult(3, 3000, 6, ()),
        names_in_bucket=SearchResult(3, 3000, 4, ()),
        pixels_in_broker=SearchResult(8, 9000, 6, ()),
        records_in_broker=SearchResult(8, 9000, 6, tuple(f"record {n}" for n in range(6))),
        on_broker=[
            BrokerBytes(topic.name, f"{topic.name}-0/0.log", 61, b"ESV2" + bytes(60))
            for topic in catalog.topics
            if topic.lifetime
        ],
        keys=KeyLife(
            epoch=490_900,
            published=START - timedelta(hours=1),
            begins=START,
            ends=START + timedelta(hours=1),
            dies=START + timedelta(hours=22, minutes=45),
            destroyed=START + timedelta(hours=22, minutes=55),
        ),
        attempts=[AccessAttempt("the sink reads", "not_authorized", refused=True)],
    )


def _stored(ours: UploadTrace) -> Iterator[StoredPicture]:
    for part in Part:
        opened = ours.picture(part)
        yield StoredPicture(
            name=f"owner/{part}",
            part=part,
            upload_id=ours.upload_id,
            head=b"ESV2" + bytes(60),
            body_at=300,
            body=bytes(range(64)),
            opened=opened,
            content_type="image/png",
            sha256=hashlib.sha256(opened).hexdigest(),
            is_same=True,
        )

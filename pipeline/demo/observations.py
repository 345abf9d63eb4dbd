"""Observations of a run of the demo.  Pure; `checks.py` evaluates them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from erasestream.pipeline.demo.customers import ReceivedResult, SentUpload
from erasestream.pipeline.demo.scenario import OPTED_IN, Order, Sender
from erasestream.schemas.events.images import Cutout, Part
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.topics.catalog.retention_budget import Lifetime, Policy


class Span(NamedTuple):
    """A part of the time between sending an upload and receiving its result."""

    name: str
    ms: float


@dataclass(frozen=True, kw_only=True)
class UploadTrace:
    """One upload and its result.  `retained`: number of its records in the topic `retained`."""

    sent: SentUpload
    result: ReceivedResult
    retained: int

    @property
    def order(self) -> Order:
        """The order that was sent."""
        return self.sent.order

    @property
    def upload_id(self) -> UploadId:
        """The id of the upload and of its result."""
        return self.sent.receipt.upload_id

    @property
    def cutout(self) -> Cutout | None:
        """The result, unless it is a failure."""
        return self.result.event if isinstance(self.result.event, Cutout) else None

    def picture(self, part: Part) -> bytes:
        """Return the photo or the cut-out; no bytes for a failure."""
        if part is Part.ORIGINAL:
            return self.order.photo.data
        return self.cutout.data if self.cutout else b""

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans in order, computed from the times in the events."""
        event, appended = self.result.event, self.sent.receipt.appended_at
        steps = self.cutout.steps_ms if self.cutout else {}
        waited = _ms(appended, event.time) - sum(steps.values())
        return (
            Span("send", _ms(self.sent.sent_at, appended)),
            Span("wait", max(0.0, waited)),
            *(Span(name, ms) for name, ms in steps.items()),
            Span("route", _ms(event.time, self.result.appended_at)),
            Span("deliver", _ms(self.result.appended_at, self.result.received_at)),
        )


def _ms(start: datetime, end: datetime) -> float:
    # The broker's clock has whole milliseconds: shorter times can come out negative.
    return max(0.0, (end - start).total_seconds() * 1000)


@dataclass(frozen=True, kw_only=True)
class TopicContents:
    """A topic and the number of its records.  Without a lifetime it holds no image."""

    name: str
    records: int
    lifetime: Lifetime | None


class RetainedRecord(NamedTuple):
    """A record of the topic `retained`; duplicates are equal."""

    lane: Lane
    account: AccountId
    upload_id: UploadId
    part: Part
    grant: GrantId


class ListedObject(NamedTuple):
    """An object as the auditor lists it; without an upload its name is not one of ours."""

    name: str
    size: int
    upload_id: UploadId | None
    part: Part | None


@dataclass(frozen=True, kw_only=True)
class StoredPicture:
    """A retained picture: the sealed bytes as the auditor reads them, and opened by the reader.

    `is_same`: the opened bytes have the SHA-256 of what was uploaded or delivered.
    """

    name: str
    part: Part
    upload_id: UploadId
    head: bytes
    body_at: int
    body: bytes
    opened: bytes
    content_type: str
    sha256: str
    is_same: bool


class SearchResult(NamedTuple):
    """A search for byte strings in all files of a folder; `found` names those that were found."""

    files: int
    size: int
    wanted: int
    found: tuple[str, ...]


class BrokerBytes(NamedTuple):
    """The beginning of the first image of a topic, as the broker has it on its disk."""

    topic: str
    file: str
    at: int
    head: bytes


class KeyLife(NamedTuple):
    """The life of the keys of an epoch.  `destroyed`: when nothing opens its images any more."""

    epoch: int
    published: datetime
    begins: datetime
    ends: datetime
    dies: datetime
    destroyed: datetime


class AccessAttempt(NamedTuple):
    """An attempt without permission; `answer` is the error code, `refused` whether it failed."""

    action: str
    answer: str
    refused: bool


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Everything that was observed.

    `results`: number of results received; `skipped`: number of unreadable or duplicate ones.
    """

    started_at: datetime
    total_s: float
    model: str
    policy: Policy
    uploads: Sequence[UploadTrace]
    results: int
    skipped: int
    granted_at: datetime
    topics: Sequence[TopicContents]
    retained: Sequence[RetainedRecord]
    listing: Sequence[ListedObject]
    stored: Sequence[StoredPicture]
    pixels_in_bucket: SearchResult
    names_in_bucket: SearchResult
    pixels_in_broker: SearchResult
    records_in_broker: SearchResult
    """The control: pieces of the sealed images, which the broker must have."""
    on_broker: Sequence[BrokerBytes]
    keys: KeyLife
    attempts: Sequence[AccessAttempt]

    def uploads_of(self, sender: Sender) -> list[UploadTrace]:
        """Return the uploads of one account."""
        return [upload for upload in self.uploads if upload.order.sender == sender]

    @property
    def foreign_records(self) -> list[RetainedRecord]:
        """Records of the topic `retained` that are not of the account that opted in."""
        opted_in = (OPTED_IN.lane, OPTED_IN.account)
        return [record for record in self.retained if (record.lane, record.account) != opted_in]


def trace_uploads(
    sent: Iterable[SentUpload],
    results: Iterable[ReceivedResult],
    retained: Iterable[RetainedRecord],
) -> Iterator[UploadTrace]:
    """Match each upload with its result and its records in the topic `retained`."""
    by_upload = {result.event.id: result for result in results}
    kept = [record.upload_id for record in retained]
    for each in sent:
        upload = each.receipt.upload_id
        yield UploadTrace(sent=each, result=by_upload[upload], retained=kept.count(upload))

"""What was found after the photos went through.  Pure; `checks.py` says what must hold of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from erasestream.pipeline.demo.customers import Sent, Taken
from erasestream.pipeline.demo.scenario import OPTED_IN, Order, Sender
from erasestream.schemas.events.images import Cutout, Part
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.topics.catalog.retention_budget import Lifetime, Policy


class Lap(NamedTuple):
    """A part of a journey, in milliseconds."""

    name: str
    ms: float


@dataclass(frozen=True, kw_only=True)
class Journey:
    """One upload from sending to result.  `kept`: its pictures in the topic `retained`."""

    sent: Sent
    taken: Taken
    kept: int

    @property
    def order(self) -> Order:
        """Who sent what."""
        return self.sent.order

    @property
    def upload_id(self) -> UploadId:
        """Of the upload and of its result."""
        return self.sent.receipt.upload_id

    @property
    def cutout(self) -> Cutout | None:
        """The result, unless it is a failure."""
        return self.taken.event if isinstance(self.taken.event, Cutout) else None

    def picture(self, part: Part) -> bytes:
        """What was sent, or what came back; nothing for a failure."""
        if part is Part.ORIGINAL:
            return self.order.photo.data
        return self.cutout.data if self.cutout else b""

    @property
    def laps(self) -> tuple[Lap, ...]:
        """Where the time went, in order; from the times that the events carry."""
        event, appended = self.taken.event, self.sent.receipt.appended_at
        steps = self.cutout.steps_ms if self.cutout else {}
        waited = _ms(appended, event.time) - sum(steps.values())
        return (
            Lap("send", _ms(self.sent.sent_at, appended)),
            Lap("wait", max(0.0, waited)),
            *(Lap(name, ms) for name, ms in steps.items()),
            Lap("route", _ms(event.time, self.taken.appended_at)),
            Lap("deliver", _ms(self.taken.appended_at, self.taken.taken_at)),
        )


def _ms(start: datetime, end: datetime) -> float:
    # The broker's clock has whole milliseconds: what is shorter can come out below zero.
    return max(0.0, (end - start).total_seconds() * 1000)


@dataclass(frozen=True, kw_only=True)
class TopicFound:
    """A topic and how many records lie in it.  Without a lifetime it holds no image."""

    name: str
    records: int
    lifetime: Lifetime | None


class RetainedRecord(NamedTuple):
    """What a record of the topic `retained` says it is; one that was repeated is one."""

    lane: Lane
    account: AccountId
    upload_id: UploadId
    part: Part
    grant: GrantId


class Listed(NamedTuple):
    """An object as the auditor lists it; without an upload its name is not one of ours."""

    name: str
    size: int
    upload_id: UploadId | None
    part: Part | None


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A retained picture: the sealed bytes as the auditor reads them, and opened by the reader.

    `is_same`: what was opened has the SHA-256 of what was uploaded or delivered.
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


class Search(NamedTuple):
    """A search for bytes in all files of a folder; `found` are those that were found."""

    files: int
    size: int
    wanted: int
    found: tuple[str, ...]


class Attempt(NamedTuple):
    """Something that a role tried although it has no right to; `answer` is the code it got."""

    what: str
    answer: str
    refused: bool


@dataclass(frozen=True, kw_only=True)
class Observations:
    """All that was found.

    `results`: how many came in all; `passed_over`: what could not be read or came twice.
    """

    started_at: datetime
    total_s: float
    model: str
    promise: Policy
    journeys: Sequence[Journey]
    results: int
    passed_over: int
    granted_at: datetime
    topics: Sequence[TopicFound]
    retained: Sequence[RetainedRecord]
    listing: Sequence[Listed]
    stored: Sequence[Stored]
    pixels_in_bucket: Search
    names_in_bucket: Search
    pixels_in_topics: Search
    attempts: Sequence[Attempt]

    def of(self, sender: Sender) -> list[Journey]:
        """The journeys of one account."""
        return [journey for journey in self.journeys if journey.order.sender == sender]

    @property
    def strangers(self) -> list[RetainedRecord]:
        """Records of the topic to the sink that are not of the account that opted in."""
        ours = (OPTED_IN.lane, OPTED_IN.account)
        return [record for record in self.retained if (record.lane, record.account) != ours]

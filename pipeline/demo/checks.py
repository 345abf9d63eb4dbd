"""Which of the demo's promises hold, by what was found.  Pure.

Every check compares what was sent with what lies somewhere; none believes a log line, and
none holds where there was nothing to look at.
"""

from collections.abc import Iterable
from typing import NamedTuple

from erasestream.pipeline.demo.observations import Journey, Observations, Search
from erasestream.pipeline.demo.scenario import OPTED_IN
from erasestream.schemas.events.images import Cutout, Failure, Part
from erasestream.sinks.images.envelope import MAGIC

PARTS = len(Part)


class Check(NamedTuple):
    """A sentence, whether it is true here, and the numbers behind it."""

    sentence: str
    holds: bool
    detail: str


def checks(found: Observations) -> tuple[Check, ...]:
    """Every check, in the order in which the report tells the story."""
    return (*_delivery(found), *_keeping(found), *_forgetting(found))


def _delivery(found: Observations) -> Iterable[Check]:
    ids = {journey.upload_id for journey in found.journeys}
    yield Check(
        "Every upload has exactly one result",
        len(ids) == len(found.journeys) == found.results > 0 and not found.passed_over,
        f"{len(ids)} uploads, {found.results} results, {found.passed_over} passed over",
    )
    cutouts = [j for j in found.journeys if isinstance(j.taken.event, Cutout)]
    codes = [
        f"{j.order.photo.name}: {j.taken.event.code}"
        for j in found.journeys
        if isinstance(j.taken.event, Failure)
    ]
    yield Check(
        "Every photo came back as a cut-out",
        bool(cutouts) and not codes,
        ", ".join([f"{len(cutouts)} cut-outs", *codes]),
    )
    yield Check(
        "Every result came back to the lane, account and reference that it was sent with",
        bool(found.journeys) and all(_is_its_own(journey) for journey in found.journeys),
        f"{len({j.order.sender.lane for j in found.journeys})} lanes, "
        f"{len({j.order.sender for j in found.journeys})} accounts",
    )
    ages_s = [topic.lifetime.worst_age_s for topic in found.topics if topic.lifetime]
    worst_s = max(ages_s, default=0.0)
    yield Check(
        "In every topic with images the sum of its times stays below what is promised",
        bool(ages_s) and worst_s <= found.promise.budget_s,
        f"worst {worst_s / 3600:.1f} h of {found.promise.promise_s / 3600:.0f} h "
        f"in {len(ages_s)} topics",
    )
    yield Check(
        "What a role has no right to do is refused",
        bool(found.attempts) and all(attempt.refused for attempt in found.attempts),
        "; ".join(f"{attempt.what}: {attempt.answer}" for attempt in found.attempts),
    )


def _is_its_own(journey: Journey) -> bool:
    sent, event = journey.order, journey.taken.event
    return (sent.sender.lane, sent.sender.account, sent.reference, journey.upload_id) == (
        journey.taken.lane,
        event.account,
        event.reference,
        event.id,
    )


def _keeping(found: Observations) -> Iterable[Check]:
    ours = found.of(OPTED_IN)
    expected = {(j.upload_id, part) for j in ours for part in Part}
    listed = [(each.upload_id, each.part) for each in found.listing]
    yield Check(
        "Opted in: of every upload, photo and cut-out went to the sink",
        bool(ours) and all(journey.kept == PARTS for journey in ours),
        f"{sum(journey.kept for journey in ours)} records of {len(ours)} uploads",
    )
    yield Check(
        "Opted in: the bucket holds exactly these, each once",
        set(listed) == expected and len(listed) == len(expected) > 0,
        f"{len(listed)} objects, {len(expected)} expected",
    )
    yield Check(
        "Opted in: every object is a sealed one",
        bool(found.stored) and all(each.head.startswith(MAGIC) for each in found.stored),
        f"{len(found.stored)} objects begin with {MAGIC.decode()}",
    )
    yield Check(
        "Opted in: the reader opens every object, and it is what was sent or delivered",
        len(found.stored) == len(expected) > 0 and all(each.is_same for each in found.stored),
        f"SHA-256 equal for {sum(e.is_same for e in found.stored)} of {len(found.stored)}",
    )


def _forgetting(found: Observations) -> Iterable[Check]:
    others = [j for j in found.journeys if j.order.sender != OPTED_IN]
    yield Check(
        "Not opted in: no record of these accounts is in the topic to the sink",
        bool(others) and not found.strangers and not any(journey.kept for journey in others),
        f"{len(found.retained)} records, {len(found.strangers)} of them theirs",
    )
    theirs = {journey.upload_id for journey in others}
    unknown = [each for each in found.listing if each.upload_id in theirs | {None}]
    yield Check(
        "Not opted in: the auditor's full listing has no object of these uploads",
        bool(others) and not unknown and len(found.listing) == len(found.retained),
        f"{len(found.listing)} objects for {len(found.retained)} retained records, "
        f"{len(unknown)} of {len(theirs)} uploads",
    )
    pixels, names = found.pixels_in_bucket, found.names_in_bucket
    yield Check(
        "No piece of any photo or cut-out, of anybody, lies in the bucket's folder",
        _searched(pixels) and not pixels.found,
        f"{pixels.wanted} pieces sought in {pixels.files} files, {_hits(pixels)}",
    )
    yield Check(
        "No account and no reference lies there, in a file or in its name",
        _searched(names) and not names.found,
        f"{names.wanted} names sought in {names.files} files, {_hits(names)}",
    )
    control = found.pixels_in_topics
    yield Check(
        "The same search finds every picture where it does lie: in the topics that forget it",
        _searched(control) and len(control.found) == control.wanted,
        f"{len(control.found)} of {control.wanted} pieces found in {control.files} files",
    )


def _searched(search: Search) -> bool:
    return bool(search.files and search.wanted)


def _hits(search: Search) -> str:
    return ": ".join([f"{len(search.found)} found", *search.found[:1]])

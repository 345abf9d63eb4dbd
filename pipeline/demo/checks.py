"""The demo's checks, evaluated on its observations.  Pure.

Every check compares what was sent with what is stored; none relies on a log line, and none holds
if there was nothing to inspect.
"""

from collections.abc import Iterable
from typing import NamedTuple

from erasestream.pipeline.demo.observations import Observations, SearchResult, UploadTrace
from erasestream.pipeline.demo.scenario import OPTED_IN
from erasestream.schemas.events.images import Cutout, Failure, Part
from erasestream.schemas.sealing.envelope import MAGIC

PARTS = len(Part)


class Check(NamedTuple):
    """A statement, whether it holds, and the numbers behind it."""

    sentence: str
    holds: bool
    detail: str


def evaluate(found: Observations) -> tuple[Check, ...]:
    """Evaluate every check, in the order of the report."""
    return (
        *_results(found),
        _lifetimes(found),
        _access(found),
        *_retained_pictures(found),
        *_ephemeral_pictures(found),
        *_plaintext(found),
    )


def _results(found: Observations) -> Iterable[Check]:
    ids = {upload.upload_id for upload in found.uploads}
    yield Check(
        "Every upload has exactly one result",
        len(ids) == len(found.uploads) == found.results > 0 and not found.skipped,
        f"{len(ids)} uploads, {found.results} results, {found.skipped} skipped",
    )
    cutouts = [u for u in found.uploads if isinstance(u.result.event, Cutout)]
    codes = [
        f"{u.order.photo.name}: {u.result.event.code}"
        for u in found.uploads
        if isinstance(u.result.event, Failure)
    ]
    yield Check(
        "Every photo came back as a cut-out",
        bool(cutouts) and not codes,
        ", ".join([f"{len(cutouts)} cut-outs", *codes]),
    )
    yield Check(
        "Every result came back to the lane, account and reference of its upload",
        bool(found.uploads) and all(_is_addressed_correctly(upload) for upload in found.uploads),
        f"{len({u.order.sender.lane for u in found.uploads})} lanes, "
        f"{len({u.order.sender for u in found.uploads})} accounts",
    )


def _is_addressed_correctly(upload: UploadTrace) -> bool:
    sent, event = upload.order, upload.result.event
    return (sent.sender.lane, sent.sender.account, sent.reference, upload.upload_id) == (
        upload.result.lane,
        event.account,
        event.reference,
        event.id,
    )


def _lifetimes(found: Observations) -> Check:
    ages_s = [topic.lifetime.worst_age_s for topic in found.topics if topic.lifetime]
    worst_s = max(ages_s, default=0.0)
    return Check(
        "In every topic with images the sum of its times is below the promise",
        bool(ages_s) and worst_s <= found.policy.budget_s,
        f"worst {worst_s / 3600:.1f} h of {found.policy.promise_s / 3600:.0f} h "
        f"in {len(ages_s)} topics",
    )


def _access(found: Observations) -> Check:
    return Check(
        "Actions without permission are refused",
        bool(found.attempts) and all(attempt.refused for attempt in found.attempts),
        "; ".join(f"{attempt.action}: {attempt.answer}" for attempt in found.attempts),
    )


def _retained_pictures(found: Observations) -> Iterable[Check]:
    uploads = found.uploads_of(OPTED_IN)
    expected = {(upload.upload_id, part) for upload in uploads for part in Part}
    listed = [(each.upload_id, each.part) for each in found.listing]
    yield Check(
        "Opted in: photo and cut-out of every upload went to the sink",
        bool(uploads) and all(upload.retained == PARTS for upload in uploads),
        f"{sum(upload.retained for upload in uploads)} records of {len(uploads)} uploads",
    )
    yield Check(
        "Opted in: the bucket holds exactly these pictures, each once",
        set(listed) == expected and len(listed) == len(expected) > 0,
        f"{len(listed)} objects, {len(expected)} expected",
    )
    yield Check(
        "Opted in: every object is sealed",
        bool(found.stored) and all(each.head.startswith(MAGIC) for each in found.stored),
        f"{len(found.stored)} objects begin with {MAGIC.decode()}",
    )
    yield Check(
        "Opted in: the reader opens every object, and it is what was sent or delivered",
        len(found.stored) == len(expected) > 0 and all(each.is_same for each in found.stored),
        f"SHA-256 equal for {sum(e.is_same for e in found.stored)} of {len(found.stored)}",
    )


def _ephemeral_pictures(found: Observations) -> Iterable[Check]:
    others = [upload for upload in found.uploads if upload.order.sender != OPTED_IN]
    foreign = found.foreign_records
    yield Check(
        "Not opted in: no record of these accounts is in the topic to the sink",
        bool(others) and not foreign and not any(upload.retained for upload in others),
        f"{len(found.retained)} records, {len(foreign)} of them theirs",
    )
    ids = {upload.upload_id for upload in others}
    unexpected = [each for each in found.listing if each.upload_id in ids | {None}]
    yield Check(
        "Not opted in: the auditor's full listing has no object of these uploads",
        bool(others) and not unexpected and len(found.listing) == len(found.retained),
        f"{len(found.listing)} objects for {len(found.retained)} retained records, "
        f"{len(unexpected)} of {len(ids)} uploads",
    )


def _plaintext(found: Observations) -> Iterable[Check]:
    pixels, names = found.pixels_in_bucket, found.names_in_bucket
    in_broker, control = found.pixels_in_broker, found.records_in_broker
    yield Check(
        "No piece of any photo or cut-out, of any account, is in the bucket's folder in clear",
        _has_searched(pixels) and not pixels.found,
        f"{pixels.wanted} pieces searched in {pixels.files} files, {_hits(pixels)}",
    )
    yield Check(
        "No account and no reference is there, in a file or in its name",
        _has_searched(names) and not names.found,
        f"{names.wanted} names searched in {names.files} files, {_hits(names)}",
    )
    yield Check(
        "No piece of any photo or cut-out, of any account, is in any file of the broker in clear",
        _has_searched(in_broker) and not in_broker.found,
        f"{in_broker.wanted} pieces searched in {in_broker.files} files, {_hits(in_broker)}",
    )
    yield Check(
        "The same search finds every sealed picture in the topics that expire it",
        _has_searched(control) and len(control.found) == control.wanted,
        f"{len(control.found)} of {control.wanted} pieces found in {control.files} files",
    )
    yield Check(
        "In every topic with images the first one on the broker's disk is sealed",
        bool(found.on_broker) and all(each.head.startswith(MAGIC) for each in found.on_broker),
        f"{len(found.on_broker)} topics, which begin with {MAGIC.decode()}",
    )


def _has_searched(search: SearchResult) -> bool:
    return bool(search.files and search.wanted)


def _hits(search: SearchResult) -> str:
    return ": ".join([f"{len(search.found)} found", *search.found[:1]])

"""Each check fails for what it is there for; none holds of nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from erasestream.pipeline.demo.checks import checks
from erasestream.pipeline.demo.observations import Attempt, Listed, Observations, Search
from erasestream.pipeline.demo.scenario import BULK, NOT_OPTED_IN
from tests.pipeline.demo.making import evidence, failed, journey, upload_id

Change = Callable[[Observations], Observations]


def failing(found: Observations) -> list[str]:
    """The sentences of the checks that do not hold."""
    return [check.sentence for check in checks(found) if not check.holds]


def test_all_hold_when_all_is_well() -> None:
    """The evidence that the other tests spoil holds as it is."""
    assert failing(evidence()) == []


def test_nothing_holds_of_nothing() -> None:
    """Without uploads, objects, topics and searches no check can be true."""
    nothing = Search(0, 0, 0, ())
    found = replace(
        evidence(),
        journeys=[],
        results=0,
        topics=[],
        retained=[],
        listing=[],
        stored=[],
        pixels_in_bucket=nothing,
        names_in_bucket=nothing,
        pixels_in_topics=nothing,
        attempts=[],
    )
    assert [check.sentence for check in checks(found) if check.holds] == []


def _of_another_lane(found: Observations) -> Observations:
    ours, theirs = found.journeys
    return replace(found, journeys=[ours, replace(theirs, taken=replace(theirs.taken, lane=BULK))])


def _other_retained(found: Observations) -> Observations:
    theirs = found.retained[0]._replace(account=NOT_OPTED_IN.account)
    return replace(found, retained=[theirs, found.retained[1]])


def _same_id_of_another_lane(found: Observations) -> Observations:
    return replace(found, retained=[found.retained[0]._replace(lane=BULK), found.retained[1]])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda e: replace(e, results=3), "Every upload has exactly one result"),
        (lambda e: replace(e, passed_over=1), "Every upload has exactly one result"),
        (
            lambda e: replace(e, journeys=[e.journeys[0], failed(e.journeys[1])]),
            "Every photo came back as a cut-out",
        ),
        (_of_another_lane, "Every result came back to the lane"),
        (
            lambda e: replace(e, promise=replace(e.promise, promise_s=3600.0)),
            "In every topic with images the sum",
        ),
        (
            lambda e: replace(e, attempts=[*e.attempts, Attempt("x", "allowed", refused=False)]),
            "What a role has no right to do",
        ),
        (
            lambda e: replace(e, journeys=[replace(e.journeys[0], kept=1), e.journeys[1]]),
            "Opted in: of every upload",
        ),
        (lambda e: replace(e, listing=e.listing[:1]), "Opted in: the bucket holds exactly"),
        (
            lambda e: replace(e, listing=[*e.listing, e.listing[0]]),
            "Opted in: the bucket holds exactly",
        ),
        (
            lambda e: replace(e, stored=[replace(e.stored[0], head=b"\x89PNG"), e.stored[1]]),
            "Opted in: every object is a sealed one",
        ),
        (
            lambda e: replace(e, stored=[replace(e.stored[0], is_same=False), e.stored[1]]),
            "Opted in: the reader opens",
        ),
        (lambda e: replace(e, stored=e.stored[:1]), "Opted in: the reader opens"),
        (_other_retained, "Not opted in: no record"),
        (_same_id_of_another_lane, "Not opted in: no record"),
        (
            lambda e: replace(e, listing=[*e.listing, Listed("x", 1, upload_id(2), None)]),
            "Not opted in: the auditor's",
        ),
        (
            lambda e: replace(e, listing=[*e.listing, Listed("stranger", 1, None, None)]),
            "Not opted in: the auditor's",
        ),
        (
            lambda e: replace(e, pixels_in_bucket=e.pixels_in_bucket._replace(found=("a",))),
            "No piece of any photo",
        ),
        (
            lambda e: replace(e, names_in_bucket=e.names_in_bucket._replace(found=("a",))),
            "No account and no reference",
        ),
        (
            lambda e: replace(e, pixels_in_topics=e.pixels_in_topics._replace(found=())),
            "The same search finds",
        ),
    ],
)
def test_check_fails_for_what_it_is_there_for(spoil: Change, sentence: str) -> None:
    """Spoil one thing, and its check says so."""
    assert any(each.startswith(sentence) for each in failing(spoil(evidence())))


def test_laps_add_up_to_the_whole_journey() -> None:
    """The parts of a journey, taken from the events' times, cover all of it once."""
    laps = {lap.name: lap.ms for lap in journey(1, NOT_OPTED_IN).laps}
    assert list(laps) == [
        "send", "wait", "decode", "infer", "compose", "encode", "route", "deliver",
    ]  # fmt: skip
    assert sum(laps.values()) == pytest.approx(3000)
    assert laps["wait"] == pytest.approx(2400 - 2030)

"""Each check fails if what it checks is wrong; none holds without observations."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from erasestream.pipeline.demo.checks import evaluate
from erasestream.pipeline.demo.observations import (
    AccessAttempt,
    ListedObject,
    Observations,
    SearchResult,
)
from erasestream.pipeline.demo.scenario import BULK, NOT_OPTED_IN
from tests.pipeline.demo.sample_observations import failed, observations, upload_id, upload_trace

Change = Callable[[Observations], Observations]


def failing(found: Observations) -> list[str]:
    """Return the sentences of the checks that do not hold."""
    return [check.sentence for check in evaluate(found) if not check.holds]


def test_all_checks_hold_on_the_sample() -> None:
    assert failing(observations()) == []


def test_no_check_holds_without_observations() -> None:
    nothing = SearchResult(0, 0, 0, ())
    found = replace(
        observations(),
        uploads=[],
        results=0,
        topics=[],
        retained=[],
        listing=[],
        stored=[],
        pixels_in_bucket=nothing,
        names_in_bucket=nothing,
        pixels_in_broker=nothing,
        records_in_broker=nothing,
        on_broker=[],
        attempts=[],
    )
    assert [check.sentence for check in evaluate(found) if check.holds] == []


def _of_another_lane(found: Observations) -> Observations:
    ours, theirs = found.uploads
    return replace(found, uploads=[ours, replace(theirs, result=replace(theirs.result, lane=BULK))])


def _other_retained(found: Observations) -> Observations:
    theirs = found.retained[0]._replace(account=NOT_OPTED_IN.account)
    return replace(found, retained=[theirs, found.retained[1]])


def _same_id_of_another_lane(found: Observations) -> Observations:
    return replace(found, retained=[found.retained[0]._replace(lane=BULK), found.retained[1]])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda e: replace(e, results=3), "Every upload has exactly one result"),
        (lambda e: replace(e, skipped=1), "Every upload has exactly one result"),
        (
            lambda e: replace(e, uploads=[e.uploads[0], failed(e.uploads[1])]),
            "Every photo came back as a cut-out",
        ),
        (_of_another_lane, "Every result came back to the lane"),
        (
            lambda e: replace(e, policy=replace(e.policy, promise_s=3600.0)),
            "In every topic with images the sum",
        ),
        (
            lambda e: replace(
                e, attempts=[*e.attempts, AccessAttempt("x", "allowed", refused=False)]
            ),
            "Actions without permission",
        ),
        (
            lambda e: replace(e, uploads=[replace(e.uploads[0], retained=1), e.uploads[1]]),
            "Opted in: photo and cut-out of every upload",
        ),
        (lambda e: replace(e, listing=e.listing[:1]), "Opted in: the bucket holds exactly"),
        (
            lambda e: replace(e, listing=[*e.listing, e.listing[0]]),
            "Opted in: the bucket holds exactly",
        ),
        (
            lambda e: replace(e, stored=[replace(e.stored[0], head=b"\x89PNG"), e.stored[1]]),
            "Opted in: every object is sealed",
        ),
        (
            lambda e: replace(e, stored=[replace(e.stored[0], is_same=False), e.stored[1]]),
            "Opted in: the reader opens",
        ),
        (lambda e: replace(e, stored=e.stored[:1]), "Opted in: the reader opens"),
        (_other_retained, "Not opted in: no record"),
        (_same_id_of_another_lane, "Not opted in: no record"),
        (
            lambda e: replace(e, listing=[*e.listing, ListedObject("x", 1, upload_id(2), None)]),
            "Not opted in: the auditor's",
        ),
        (
            lambda e: replace(e, listing=[*e.listing, ListedObject("stranger", 1, None, None)]),
            "Not opted in: the auditor's",
        ),
        (
            lambda e: replace(e, pixels_in_bucket=e.pixels_in_bucket._replace(found=("a",))),
            "No piece of any photo or cut-out, of any account, is in the bucket",
        ),
        (
            lambda e: replace(e, pixels_in_broker=e.pixels_in_broker._replace(found=("a",))),
            "No piece of any photo or cut-out, of any account, is in any file of the broker",
        ),
        (
            lambda e: replace(e, names_in_bucket=e.names_in_bucket._replace(found=("a",))),
            "No account and no reference",
        ),
        (
            lambda e: replace(e, records_in_broker=e.records_in_broker._replace(found=())),
            "The same search finds",
        ),
        (
            lambda e: replace(
                e, on_broker=[*e.on_broker, e.on_broker[0]._replace(head=b"\x89PNG")]
            ),
            "In every topic with images the first one",
        ),
    ],
)
def test_each_check_fails_if_what_it_checks_is_wrong(spoil: Change, sentence: str) -> None:
    assert any(each.startswith(sentence) for each in failing(spoil(observations())))


def test_spans_add_up_to_the_whole_time() -> None:
    spans = {span.name: span.ms for span in upload_trace(1, NOT_OPTED_IN).spans}
    assert list(spans) == [
        "send", "wait", "decode", "infer", "compose", "encode", "route", "deliver",
    ]  # fmt: skip
    assert sum(spans.values()) == pytest.approx(3000)
    assert spans["wait"] == pytest.approx(2400 - 2030)

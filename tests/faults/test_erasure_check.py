"""The check of a storm of erasures accepts a clean one, and names each thing that is wrong."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from erasestream.pipeline.stages.receipts.leaves import Attested
from erasestream.schemas.events.consent import Decision
from tests.faults.erasure_check import judge
from tests.faults.erasure_evidence import ErasureEvidence
from tests.faults.erasure_evidence_builder import (
    ASKED,
    ENDED,
    ENDED_BY,
    ERASED,
    ERASED_NAME,
    KEPT,
    KEPT_NAME,
    LATE_NAME,
    LIVING,
    REVOKED,
    at,
    clean,
    decided,
    digest,
    entries,
    erased,
    erased_upload,
    receipts,
    stored,
    upload,
)
from tests.faults.erasure_races import killed_before_commit, races
from tests.sinks.log.sample_log import STRANGER

Change = Callable[[ErasureEvidence], dict[str, Any]]


@pytest.fixture(scope="module")
def evidence() -> ErasureEvidence:
    """Return that of a clean storm."""
    return clean()


def found(evidence: ErasureEvidence) -> set[str]:
    """Return the names of what is wrong."""
    return {name for name, count in judge(evidence).items() if count}


def test_a_clean_storm_is_accepted(evidence: ErasureEvidence) -> None:
    assert judge(evidence).total() == 0
    assert len(judge(evidence)) == 13


def second_erasure() -> bytes:
    """Return the leaf of the erasure of the ended grant, under another id."""
    return erased(REVOKED).leaf.model_copy(update={"id": upload(50)}).encode()


SEEN: dict[str, tuple[str, Change]] = {
    "an object of an ended grant": (
        "orphans",
        lambda e: {"objects": [*e.objects, LATE_NAME]},
    ),
    "an object of an erased upload": (
        "orphans",
        lambda e: {"objects": [*e.objects, ERASED_NAME]},
    ),
    "an object of no picture": (
        "strange",
        lambda e: {"objects": [*e.objects, stored(LIVING, upload(70))]},
    ),
    "a key of an ended grant": (
        "keys_from_the_dead",
        lambda e: {"keys": e.keys + Counter({ENDED: 1})},
    ),
    "a picture of an ended grant that opens": (
        "still_opened",
        lambda e: {"opened": {**e.opened, LATE_NAME: b""}},
    ),
    "a picture of an erased upload that opens": (
        "still_opened",
        lambda e: {"opened": {**e.opened, ERASED_NAME: b""}},
    ),
    "a picture without an object": ("lost", lambda e: {"objects": e.objects[1:]}),
    "a picture with two": (
        "duplicated",
        lambda e: {"objects": [*e.objects, stored(LIVING, KEPT, "d")]},
    ),
    "an object that was created again": (
        "overwritten",
        lambda e: {"created": {**e.created, KEPT_NAME: {at(16), at(17)}}},
    ),
    "another picture": (
        "unopened",
        lambda e: {"opened": {**e.opened, KEPT_NAME: digest(ERASED)}},
    ),
    "a picture that does not open": (
        "unopened",
        lambda e: {"opened": {n: d for n, d in e.opened.items() if n != KEPT_NAME}},
    ),
    "an object that is listed after the receipt": (
        "receipts_early",
        lambda e: {"last_seen": {**e.last_seen, ENDED: at(71)}},
    ),
    "an object that is stored after the receipt": (
        "receipts_early",
        lambda e: {"created": {**e.created, LATE_NAME: {at(71)}}},
    ),
    "an erased upload that is listed after the receipt": (
        "receipts_early",
        lambda e: {"last_seen": {**e.last_seen, ERASED: at(71)}},
    ),
    "a receipt that the auditor refused": (
        "receipts_refused",
        lambda _: {"refused": Counter({"a key still exists": 1})},
    ),
    "a receipt that is there twice": (
        "receipts_twice",
        lambda e: {"leaves": [*e.leaves, e.leaves[0]]},
    ),
    "a second erasure under another receipt": (
        "receipts_twice",
        lambda e: {"leaves": [*e.leaves, second_erasure()]},
    ),
    "an entry without its leaf": ("receipts_lost", lambda e: {"leaves": e.leaves[:-1]}),
    "a leaf without its receipt": (
        "receipts_lost",
        lambda e: {"receipts": dict(list(e.receipts.items())[1:])},
    ),
    "receipts of another tree": (
        "receipts_refused",
        lambda e: {"leaves": [e.leaves[1], e.leaves[0], *e.leaves[2:]]},
    ),
    "a receipt of another entry": (
        "receipts_refused",
        lambda e: {"attested": {**e.attested, REVOKED: [erased(REVOKED, seen=71)]}},
    ),
    "a request that is not known": ("receipts_unfounded", lambda _: {"requests": {}}),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_was_seen_is_judged(evidence: ErasureEvidence, name: str) -> None:
    wrong, change = SEEN[name]
    assert wrong in found(replace(evidence, **change(evidence)))


def without(kind: str) -> list[Attested]:
    """Return the entries without the first of a kind."""
    left = entries()
    left.remove(next(each for each in left if each.leaf.kind == kind))
    return left


def instead(attested: Attested) -> list[Attested]:
    """Return the entries with another one of the same receipt."""
    return [attested if each.leaf.id == attested.leaf.id else each for each in entries()]


LOGS: dict[str, tuple[str, Callable[[], list[Attested]]]] = {
    "an erasure that no entry tells of": ("receipts_lost", lambda: without("erasure")),
    "an erased upload that no entry tells of": (
        "receipts_lost",
        lambda: without("upload_erasure"),
    ),
    "a grant that no entry tells of": ("receipts_lost", lambda: without("consent")),
    "a revocation that no entry tells of": (
        "receipts_lost",
        lambda: [e for e in entries() if e.subject is None or e.subject.about != ENDED_BY[REVOKED]],
    ),
    "an erasure of a living grant": ("receipts_unfounded", lambda: [*entries(), erased(ASKED)]),
    "an erasure of an upload without a request": (
        "receipts_unfounded",
        lambda: [*entries(), erased_upload(KEPT, upload(31))],
    ),
    "a marker before the revocation": (
        "receipts_early",
        lambda: instead(erased(REVOKED, confirmed=9)),
    ),
    "an end before the marker": ("receipts_early", lambda: instead(erased(REVOKED, seen=11))),
    "an upload that is gone before the request": (
        "receipts_early",
        lambda: instead(erased_upload(seen=9)),
    ),
}


@pytest.mark.parametrize("name", LOGS)
def test_leaves_of_the_log_are_judged(name: str) -> None:
    wrong, build = LOGS[name]
    assert wrong in found(clean(build()))


def test_a_receipt_of_another_log_is_refused(evidence: ErasureEvidence) -> None:
    strange = receipts(entries(), key=STRANGER)
    assert found(replace(evidence, receipts=strange)) == {"receipts_refused"}


def test_a_receipt_for_another_account_is_refused(evidence: ErasureEvidence) -> None:
    """It is one of ours, and holds."""
    ids = list(evidence.receipts)
    swapped = {**evidence.receipts, ids[0]: evidence.receipts[ids[1]]}
    assert found(replace(evidence, receipts=swapped)) == {"receipts_refused"}


def test_what_the_log_proves_differs_from_what_it_has(evidence: ErasureEvidence) -> None:
    """A second tree under the same keys, of another size, is not this log."""
    other = [decided(ASKED, Decision.GRANTED, upload(60), 0), *entries()]
    assert found(replace(evidence, receipts=receipts(other))) == {"receipts_refused"}


def test_races_and_kills_are_counted(evidence: ErasureEvidence) -> None:
    """A picture was stored after the marker, and a sink was killed before its commit."""
    assert races(evidence) == {"grants": 1, "grants_marked": 1, "uploads": 1}
    assert killed_before_commit(evidence) == 1
    earlier = {**evidence.created, LATE_NAME: {at(11)}, ERASED_NAME: {at(9)}}
    assert races(replace(evidence, created=earlier)) == {
        "grants": 1,
        "grants_marked": 0,
        "uploads": 0,
    }
    (kill,) = evidence.sink_kills
    committed = kill._replace(committed={at: offset + 1 for at, offset in kill.committed.items()})
    before = kill._replace(time=at(12))
    assert killed_before_commit(replace(evidence, sink_kills=[committed, before])) == 0

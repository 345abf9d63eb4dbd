"""The checker counts each kind of error under its name, and accepts every correct outcome."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.binding_windows import NEVER
from tests.faults.checker import judge
from tests.faults.evidence import Evidence
from tests.faults.evidence_builder import (
    LANE,
    T,
    evidence_of,
    given_up,
    grant,
    picture_record,
    revoke,
    with_records,
)
from tests.faults.verdict import CONFIRMED, GRANTED, MUST_NOT_BE_RETAINED, REVOKED

IN_FORCE = grant(-9000)
ENDED = grant(-9000, erased=-4500), revoke(-5000, confirmed=-4000)
OTHER = {"writer": 1}

CORRECT: dict[str, Evidence] = {
    "never opted in": evidence_of(retained=False),
    "opted in": evidence_of(IN_FORCE, retained=True),
    "opted out": evidence_of(*ENDED, retained=False),
    "revoked while it was routed, and retained": evidence_of(IN_FORCE, revoke(15), retained=True),
    "revoked while it was routed, and not retained": evidence_of(
        IN_FORCE, revoke(15), retained=False
    ),
    "handed over, and revoked before it was stored": replace(
        evidence_of(IN_FORCE, revoke(100, **OTHER), retained=True), stored=Counter()
    ),
    "granted within the skew": evidence_of(grant(-1000), retained=False),
    "granted again by the other writer": evidence_of(*ENDED, grant(-3500, **OTHER), retained=True),
    "a grant open when the revocation began, and ordered after it": evidence_of(
        grant(-6000, -3000, entry=-4600, state=-4500, **OTHER),
        revoke(-5000, -4000, entry=-4800, state=-4700),
        retained=True,
    ),
    "a grant open when the revocation began, and ordered before it": evidence_of(
        grant(-6000, -3000, entry=-5900, state=-5800, **OTHER),
        revoke(-5000, -4000, entry=-4800, state=-4700),
        retained=False,
    ),
    "a revocation by the other writer that never returned": evidence_of(
        IN_FORCE,
        given_up(revoke(-3000, NEVER - T, entry=None, state=None, **OTHER)),
        retained=False,
    ),
    "a revocation that was given up, and appended after the grant": evidence_of(
        given_up(revoke(-30_000, -20_000, entry=-29_000, state=-8000, **OTHER)),
        IN_FORCE,
        retained=False,
    ),
    "a revocation that was given up, with its entry appended after the grant": evidence_of(
        given_up(revoke(-30_000, -20_000, entry=-8000, state=None, **OTHER)),
        IN_FORCE,
        retained=False,
    ),
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct_outcomes_are_accepted(name: str) -> None:
    """Where calls overlap, either outcome is correct."""
    verdict = judge(CORRECT[name])
    assert set(verdict.wrong.values()) == {0}, (verdict.wrong, verdict.details)


WRONG: dict[str, tuple[Callable[[], Evidence], str]] = {
    "no result": (lambda: with_records(evidence_of(retained=False), "ephemeral.shop"), "lost"),
    "two results": (
        lambda: with_records(
            evidence_of(retained=False),
            "ephemeral.shop",
            picture_record(T + 30),
            picture_record(T + 31),
        ),
        "duplicated",
    ),
    "another account's": (
        lambda: with_records(
            evidence_of(retained=False), "ephemeral.shop", picture_record(T + 30, ce_account="b")
        ),
        "misrouted",
    ),
    "another lane's": (
        lambda: with_records(evidence_of(retained=False), "ephemeral.bulk", picture_record(T + 30)),
        "across_lanes",
    ),
    "another picture": (
        lambda: with_records(
            evidence_of(retained=False),
            "ephemeral.shop",
            picture_record(T + 30)._replace(digest=b"x"),
        ),
        "misrouted",
    ),
    "retained without a grant": (lambda: evidence_of(retained=True), "misrouted"),
    "retained after a confirmed revocation": (
        lambda: evidence_of(*ENDED, retained=True),
        "retained_after_revocation",
    ),
    "retained after a revocation that began after the other's grant returned": (
        lambda: evidence_of(grant(-6000, -5001, **OTHER), revoke(-5000), retained=True),
        "retained_after_revocation",
    ),
    "retained after a revocation, under a grant that was given up before and appended later": (
        lambda: evidence_of(
            IN_FORCE,
            given_up(grant(-7000, -5001, entry=-6900, state=-4000, **OTHER)),
            revoke(-5000),
            retained=True,
        ),
        "retained_after_revocation",
    ),
    "retained after both revoked": (
        lambda: evidence_of(IN_FORCE, revoke(-5000, -4000), revoke(-4500, **OTHER), retained=True),
        "retained_after_revocation",
    ),
    "retained within the skew": (lambda: evidence_of(grant(-2009), retained=True), "misrouted"),
    "not retained after a grant": (
        lambda: evidence_of(IN_FORCE, retained=False),
        "not_retained_after_grant",
    ),
    "handed over after a grant, and not stored": (
        lambda: replace(evidence_of(IN_FORCE, retained=True), stored=Counter()),
        "not_retained_after_grant",
    ),
    "not handed over after a grant, and revoked after the result": (
        lambda: evidence_of(IN_FORCE, revoke(100, **OTHER), retained=False),
        "not_retained_after_grant",
    ),
    "not retained after a grant that followed the other's revocation": (
        lambda: evidence_of(revoke(-9500, -9001, **OTHER), IN_FORCE, retained=False),
        "not_retained_after_grant",
    ),
    "not retained after a grant that followed a revocation given up and never appended": (
        lambda: evidence_of(
            given_up(revoke(-30_000, -20_000, entry=None, state=None, **OTHER)),
            IN_FORCE,
            retained=False,
        ),
        "not_retained_after_grant",
    ),
    "in force by its state, ended by the ledger": (
        lambda: evidence_of(
            grant(-9000, -8000, entry=-8900, state=-8200),
            revoke(-9000, -8000, entry=-8800, state=-8300, **OTHER),
            retained=False,
        ),
        "misrouted",
    ),
    "ended by its state, in force by the ledger": (
        lambda: evidence_of(
            revoke(-9000, -8000, entry=-8900, state=-8200),
            grant(-9000, -8000, entry=-8800, state=-8300, **OTHER),
            retained=False,
        ),
        "misrouted",
    ),
    "recorded, but in no topic": (
        lambda: evidence_of(revoke(-9000, entry=None, state=None), retained=False),
        "misrouted",
    ),
    "recorded, and without a state": (
        lambda: evidence_of(revoke(-9000, state=None), retained=False),
        "misrouted",
    ),
    "confirmed, and a grant is open": (
        lambda: evidence_of(IN_FORCE, revoke(-5000, confirmed=-4000), retained=False),
        "misrouted",
    ),
    "confirmed before the last grant was erased": (
        lambda: evidence_of(
            grant(-9000, erased=-3999), revoke(-5000, confirmed=-4000), retained=False
        ),
        "misrouted",
    ),
    "one part only": (
        lambda: with_records(
            evidence_of(IN_FORCE, retained=True),
            "retained",
            picture_record(T + 30, "retained", ce_part="cutout", ce_lane=LANE),
        ),
        "misrouted",
    ),
    "no proof": (
        lambda: with_records(evidence_of(IN_FORCE, retained=True), "ledger.shop"),
        "misrouted",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_counted(name: str) -> None:
    build, counted = WRONG[name]
    assert judge(build()).wrong[counted] > 0


def test_claims_are_counted() -> None:
    """Count the uploads that decisions bind, and those that two writers decided for."""
    by_one = judge(evidence_of(*ENDED, retained=False))
    assert by_one.bound == {MUST_NOT_BE_RETAINED: 1, REVOKED: 1, CONFIRMED: 1}
    assert not by_one.shared.total()
    overlapping = judge(CORRECT["a grant open when the revocation began, and ordered after it"])
    assert not overlapping.bound
    alone = judge(evidence_of(*ENDED, revoke(-3500, **OTHER), retained=False))
    assert alone.shared == {REVOKED: 1, CONFIRMED: 1}
    granted = judge(evidence_of(revoke(-9500, **OTHER), IN_FORCE, retained=True))
    assert granted.shared == {GRANTED: 1}


def test_rewritten_decisions_are_counted() -> None:
    """A call that wrote two decisions met an opposite one, and took its own back."""
    first = given_up(grant(-9000, -8000, entry=-8900, state=-8300))
    back = first._replace(
        call=first.call._replace(grants=False), entry_ms=T - 8200, state_ms=T - 8100
    )
    evidence = evidence_of(
        first, back, revoke(-9000, -8000, state=-8400, entry=-8950), retained=False
    )
    calls = {account: [each[0], each[2]] for account, each in evidence.calls.items()}
    assert judge(replace(evidence, calls=calls)).rewritten == 1

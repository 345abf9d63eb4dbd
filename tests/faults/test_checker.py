"""The checker of the storm notices what it is there to notice, and nothing else."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import pytest

from erasestream.schemas.ids import AccountId, Lane, grant_id
from tests.faults.binding_windows import NEVER, WriterCall
from tests.faults.checker import CONFIRMED, GRANTED, REVOKED, AcknowledgedUpload, Evidence, judge
from tests.faults.observer import ObservedRecord

Records = Mapping[tuple[int, int], ObservedRecord]

UPLOAD, ACCOUNT, LANE = "u", "a", "shop"
T = 1_000_000


def _iso(at_ms: int) -> str:
    return f"1970-01-01T00:{at_ms // 60000:02}:{at_ms // 1000 % 60:02}.{at_ms % 1000:03}Z"


class Told(NamedTuple):
    """A call, and when its ledger entry and its state were appended; None is never."""

    call: WriterCall
    entry_ms: int | None
    state_ms: int | None
    erased_ms: int | None = None


_actors = (f"owner-{number}" for number in itertools.count())


def _told(grants: bool, begun: int, answered: int | None = None, **more: int | None) -> Told:
    """A recorded call; times count from the upload, in milliseconds."""
    answered = begun + 20 if answered is None else answered
    state = begun + 10
    call = WriterCall(
        actor=next(_actors),
        writer=more.get("writer") or 0,
        grants=grants,
        begun_ms=T + begun,
        answered_ms=T + answered,
        confirmed_ms=NEVER if (at := more.get("confirmed")) is None else T + at,
    )
    call = call._replace(decision_id=f"id-of-{call.actor}")
    placed = {"entry": state - 5, "state": state, "erased": None} | more
    return Told(
        call,
        *(
            None if (at := placed[name]) is None else T + at
            for name in ("entry", "state", "erased")
        ),
    )


def _grant(begun: int, answered: int | None = None, **more: int | None) -> Told:
    return _told(True, begun, answered, **more)


def _revoke(begun: int, answered: int | None = None, **more: int | None) -> Told:
    return _told(False, begun, answered, **more)


def _given_up(told: Told) -> Told:
    return told._replace(call=told.call._replace(decision_id=None, is_given_up=True))


def _decided(told: Told, offset: int, at_ms: int) -> ObservedRecord:
    attributes = {
        "ce_id": f"id-of-{told.call.actor}",
        "ce_account": ACCOUNT,
        "ce_lane": LANE,
        "ce_time": _iso(told.call.begun_ms),
    }
    body = {"decision": "granted" if told.call.grants else "revoked", "actor": told.call.actor}
    return ObservedRecord(attributes, 0, offset, at_ms, body)


def _records(all_told: tuple[Told, ...], time_of: Callable[[Told], int | None]) -> Records:
    placed = sorted((at, told) for told in all_told if (at := time_of(told)) is not None)
    return {(0, n): _decided(told, n, at) for n, (at, told) in enumerate(placed)}


def _erasures(all_told: tuple[Told, ...]) -> Records:
    """Each is said again later, as by an eraser that was killed."""
    found = {}
    for told in all_told:
        if told.erased_ms is not None:
            grant = grant_id(Lane(LANE), AccountId(ACCOUNT), f"id-of-{told.call.actor}")
            for at in (told.erased_ms, told.erased_ms + 5000):
                n = len(found)
                found[0, n] = ObservedRecord({"ce_account": ACCOUNT}, 0, n, at, {"grant": grant})
    return found


def _seen(at_ms: int, kind: str = "cutout", offset: int = 0, **more: str) -> ObservedRecord:
    type_ = f"com.backgrounderase.image.{kind}.v1"
    given = {"ce_id": UPLOAD, "ce_account": ACCOUNT, "ce_type": type_, **more}
    return ObservedRecord(given, 0, offset, at_ms)


def _evidence(*all_told: Told, kept: bool) -> Evidence:
    """One upload at T, its cut-out and its result; and what its account's owner was told."""
    parts = {
        (0, n): _seen(T + 30, "retained", n, ce_part=part, ce_lane=LANE)
        for n, part in enumerate(("original", "cutout"))
    }
    return Evidence(
        sent={UPLOAD: AcknowledgedUpload(LANE, ACCOUNT, T)},
        topics={
            "uploads.shop": {(0, 0): _seen(T, "uploaded")},
            "cutouts.shop": {(0, 0): _seen(T + 20)},
            "ephemeral.shop": {(0, 0): _seen(T + 30)},
            "ephemeral.bulk": {},
            "retained": parts if kept else {},
            "consent.shop": _records(all_told, lambda told: told.state_ms),
            "ledger": _records(all_told, lambda told: told.entry_ms),
            "erasures": _erasures(all_told),
        },
        stored=Counter({(UPLOAD, p, "g"): 1 for p in ("original", "cutout")} if kept else {}),
        calls={(LANE, ACCOUNT): [told.call for told in all_told]} if all_told else {},
    )


STANDS = _grant(-9000)
ENDED = _grant(-9000, erased=-4500), _revoke(-5000, confirmed=-4000)
OTHER = {"writer": 1}

RIGHT: dict[str, Evidence] = {
    "never opted in": _evidence(kept=False),
    "opted in": _evidence(STANDS, kept=True),
    "opted out": _evidence(*ENDED, kept=False),
    "revoked while it was routed, and kept": _evidence(STANDS, _revoke(15), kept=True),
    "revoked while it was routed, and not kept": _evidence(STANDS, _revoke(15), kept=False),
    "handed over, and revoked before it was stored": replace(
        _evidence(STANDS, _revoke(100, **OTHER), kept=True), stored=Counter()
    ),
    "granted within the skew": _evidence(_grant(-1000), kept=False),
    "granted again by the other": _evidence(*ENDED, _grant(-3500, **OTHER), kept=True),
    "a grant open when the revocation began, and ordered after it": _evidence(
        _grant(-6000, -3000, entry=-4600, state=-4500, **OTHER),
        _revoke(-5000, -4000, entry=-4800, state=-4700),
        kept=True,
    ),
    "the same, ordered before it": _evidence(
        _grant(-6000, -3000, entry=-5900, state=-5800, **OTHER),
        _revoke(-5000, -4000, entry=-4800, state=-4700),
        kept=False,
    ),
    "a revocation of the other that nobody has answered": _evidence(
        STANDS, _given_up(_revoke(-3000, NEVER - T, entry=None, state=None, **OTHER)), kept=False
    ),
    "a revocation that was given up, and landed behind the grant": _evidence(
        _given_up(_revoke(-30_000, -20_000, entry=-29_000, state=-8000, **OTHER)),
        STANDS,
        kept=False,
    ),
    "a revocation that was given up, of which the entry landed behind the grant": _evidence(
        _given_up(_revoke(-30_000, -20_000, entry=-8000, state=None, **OTHER)), STANDS, kept=False
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_is_right(name: str) -> None:
    """What follows the rules is not found fault with; what overlaps may go either way."""
    verdict = judge(RIGHT[name])
    assert set(verdict.wrong.values()) == {0}, (verdict.wrong, verdict.details)


def _with(evidence: Evidence, topic: str, *records: ObservedRecord) -> Evidence:
    changed = {(0, n): record._replace(offset=n) for n, record in enumerate(records)}
    return replace(evidence, topics={**evidence.topics, topic: changed})


WRONG: dict[str, tuple[Callable[[], Evidence], str]] = {
    "no result": (lambda: _with(_evidence(kept=False), "ephemeral.shop"), "lost"),
    "two results": (
        lambda: _with(_evidence(kept=False), "ephemeral.shop", _seen(T + 30), _seen(T + 31)),
        "duplicated",
    ),
    "another account's": (
        lambda: _with(_evidence(kept=False), "ephemeral.shop", _seen(T + 30, ce_account="b")),
        "misrouted",
    ),
    "another lane's": (
        lambda: _with(_evidence(kept=False), "ephemeral.bulk", _seen(T + 30)),
        "across_lanes",
    ),
    "another picture": (
        lambda: _with(_evidence(kept=False), "ephemeral.shop", _seen(T + 30)._replace(digest=b"x")),
        "misrouted",
    ),
    "kept without a grant": (lambda: _evidence(kept=True), "misrouted"),
    "kept after a confirmed revocation": (
        lambda: _evidence(*ENDED, kept=True),
        "retained_after_revocation",
    ),
    "kept after a revocation that began when the other's grant was answered": (
        lambda: _evidence(_grant(-6000, -5001, **OTHER), _revoke(-5000), kept=True),
        "retained_after_revocation",
    ),
    "kept after a revocation, under a grant that was given up before and landed behind it": (
        lambda: _evidence(
            STANDS,
            _given_up(_grant(-7000, -5001, entry=-6900, state=-4000, **OTHER)),
            _revoke(-5000),
            kept=True,
        ),
        "retained_after_revocation",
    ),
    "kept after both revoked": (
        lambda: _evidence(STANDS, _revoke(-5000, -4000), _revoke(-4500, **OTHER), kept=True),
        "retained_after_revocation",
    ),
    "kept within the skew": (lambda: _evidence(_grant(-2009), kept=True), "misrouted"),
    "not kept after a grant": (lambda: _evidence(STANDS, kept=False), "not_retained_after_grant"),
    "handed over after a grant, and not stored": (
        lambda: replace(_evidence(STANDS, kept=True), stored=Counter()),
        "not_retained_after_grant",
    ),
    "not handed over after a grant, and revoked behind the result": (
        lambda: _evidence(STANDS, _revoke(100, **OTHER), kept=False),
        "not_retained_after_grant",
    ),
    "not kept after a grant behind the other's revocation": (
        lambda: _evidence(_revoke(-9500, -9001, **OTHER), STANDS, kept=False),
        "not_retained_after_grant",
    ),
    "not kept after a grant behind a revocation that was given up and never landed": (
        lambda: _evidence(
            _given_up(_revoke(-30_000, -20_000, entry=None, state=None, **OTHER)),
            STANDS,
            kept=False,
        ),
        "not_retained_after_grant",
    ),
    "in force by its state, ended by the ledger": (
        lambda: _evidence(
            _grant(-9000, -8000, entry=-8900, state=-8200),
            _revoke(-9000, -8000, entry=-8800, state=-8300, **OTHER),
            kept=False,
        ),
        "misrouted",
    ),
    "ended by its state, in force by the ledger": (
        lambda: _evidence(
            _revoke(-9000, -8000, entry=-8900, state=-8200),
            _grant(-9000, -8000, entry=-8800, state=-8300, **OTHER),
            kept=False,
        ),
        "misrouted",
    ),
    "recorded, and nowhere": (
        lambda: _evidence(_revoke(-9000, entry=None, state=None), kept=False),
        "misrouted",
    ),
    "recorded, and without a state": (
        lambda: _evidence(_revoke(-9000, state=None), kept=False),
        "misrouted",
    ),
    "confirmed, and a grant is open": (
        lambda: _evidence(STANDS, _revoke(-5000, confirmed=-4000), kept=False),
        "misrouted",
    ),
    "confirmed before the last grant was erased": (
        lambda: _evidence(_grant(-9000, erased=-3999), _revoke(-5000, confirmed=-4000), kept=False),
        "misrouted",
    ),
    "one part only": (
        lambda: _with(
            _evidence(STANDS, kept=True),
            "retained",
            _seen(T + 30, "retained", ce_part="cutout", ce_lane=LANE),
        ),
        "misrouted",
    ),
    "no proof": (lambda: _with(_evidence(STANDS, kept=True), "ledger"), "misrouted"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_is_noticed(name: str) -> None:
    """Each kind of wrong is counted under its name."""
    build, counted = WRONG[name]
    assert judge(build()).wrong[counted] > 0


def test_claims_are_counted() -> None:
    """How many uploads were bound, and how many of them by what two writers were told."""
    by_one = judge(_evidence(*ENDED, kept=False))
    assert by_one.bound == {"must not be retained": 1, REVOKED: 1, CONFIRMED: 1}
    assert not by_one.shared.total()
    overlapping = judge(RIGHT["a grant open when the revocation began, and ordered after it"])
    assert not overlapping.bound
    alone = judge(_evidence(*ENDED, _revoke(-3500, **OTHER), kept=False))
    assert alone.shared == {REVOKED: 1, CONFIRMED: 1}
    granted = judge(_evidence(_revoke(-9500, **OTHER), STANDS, kept=True))
    assert granted.shared == {GRANTED: 1}


def test_a_decision_that_met_a_rival_is_counted() -> None:
    """A call that wrote two decisions found an opposite one, and mended it."""
    grant = _given_up(_grant(-9000, -8000, entry=-8900, state=-8300))
    back = grant._replace(
        call=grant.call._replace(grants=False), entry_ms=T - 8200, state_ms=T - 8100
    )
    evidence = _evidence(grant, back, _revoke(-9000, -8000, state=-8400, entry=-8950), kept=False)
    calls = {account: [made[0], made[2]] for account, made in evidence.calls.items()}
    assert judge(replace(evidence, calls=calls)).mended == 1

"""The storm in a minute; and that its checker notices what it is there to notice."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.checker import Evidence, Sent, judge
from tests.faults.observer import Seen
from tests.faults.plan import Kind, faults
from tests.faults.storm import Size, storm

SEED = 20_261
MINUTE = Size(uploads=2000, seconds=36.0, deciders=3, every_s=3.0)


@pytest.mark.long
def test_a_minute_of_storm() -> None:
    """Killed, stopped, cut off and slowed: nothing lost, twice, misrouted or kept wrongly."""
    outcome = storm(MINUTE, SEED)
    verdict = outcome.verdict
    assert set(verdict.wrong.values()) == {0}, (verdict.wrong, verdict.details)
    assert outcome.uploads > 100
    assert outcome.kills > 0
    assert verdict.bound["made after a confirmed grant"] > 0
    assert verdict.bound["must not be retained"] > 0


def test_seed_replays_the_faults() -> None:
    """The same seed gives the same faults in the same order, another one others."""
    first, again, other = (
        [f for f, _ in zip(faults(n), range(200), strict=False)] for n in (1, 1, 2)
    )
    assert first == again != other
    assert {fault.kind for fault in first} == set(Kind)


UPLOAD, ACCOUNT, LANE = "u", "a", "shop"
T = 1_000_000


def _iso(at_ms: int) -> str:
    return f"1970-01-01T00:{at_ms // 60000:02}:{at_ms // 1000 % 60:02}.{at_ms % 1000:03}Z"


def _decided(offset: int, at_ms: int, decision: str) -> Seen:
    attributes = {"ce_id": f"d{offset}", "ce_account": ACCOUNT, "ce_time": _iso(at_ms)}
    return Seen(attributes, 0, offset, at_ms, decision)


def _seen(at_ms: int, kind: str = "cutout", offset: int = 0, **more: str) -> Seen:
    type_ = f"com.backgrounderase.image.{kind}.v1"
    given = {"ce_id": UPLOAD, "ce_account": ACCOUNT, "ce_type": type_, **more}
    return Seen(given, 0, offset, at_ms)


def _evidence(*decisions: tuple[int, str], kept: bool, confirmed: int | None = None) -> Evidence:
    """One upload at T, its cut-out and its result; decisions are acknowledged when appended."""
    consent = {(0, n): _decided(n, at, what) for n, (at, what) in enumerate(decisions)}
    parts = {
        (0, n): _seen(T + 30, "retained", n, ce_part=part, ce_lane=LANE)
        for n, part in enumerate(("original", "cutout"))
    }
    return Evidence(
        sent={UPLOAD: Sent(LANE, ACCOUNT, T)},
        topics={
            "uploads.shop": {(0, 0): _seen(T, "uploaded")},
            "cutouts.shop": {(0, 0): _seen(T + 20)},
            "ephemeral.shop": {(0, 0): _seen(T + 30)},
            "ephemeral.bulk": {},
            "retained": parts if kept else {},
            "consent.shop": consent,
            "ledger": dict(consent),
        },
        stored=Counter({(UPLOAD, p, "g"): 1 for p in ("original", "cutout")} if kept else {}),
        known={(LANE, ACCOUNT, at): at for at, _ in decisions},
        confirmed={(LANE, ACCOUNT): [confirmed]} if confirmed else {},
    )


GRANTED, REVOKED = (T - 9000, "granted"), (T - 5000, "revoked")


@pytest.mark.parametrize(
    "evidence",
    [
        _evidence(kept=False),
        _evidence(GRANTED, kept=True),
        _evidence(GRANTED, REVOKED, kept=False, confirmed=T - 4000),
        _evidence(GRANTED, (T + 25, "revoked"), kept=True),
        _evidence(GRANTED, (T + 25, "revoked"), kept=False),
        _evidence((T - 1000, "granted"), kept=False),
    ],
)
def test_right_is_right(evidence: Evidence) -> None:
    """What follows the rules is not found fault with; a decision in between may go either way."""
    verdict = judge(evidence)
    assert set(verdict.wrong.values()) == {0}, (verdict.wrong, verdict.details)


def _with(evidence: Evidence, topic: str, *records: Seen) -> Evidence:
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
    "kept without a grant": (lambda: _evidence(kept=True), "misrouted"),
    "kept after a revocation": (
        lambda: _evidence(GRANTED, REVOKED, kept=True, confirmed=T - 4000),
        "retained_after_revocation",
    ),
    "kept within the skew": (lambda: _evidence((T - 1999, "granted"), kept=True), "misrouted"),
    "not kept after a grant": (lambda: _evidence(GRANTED, kept=False), "not_retained_after_grant"),
    "one part only": (
        lambda: _with(
            _evidence(GRANTED, kept=True),
            "retained",
            _seen(T + 30, "retained", ce_part="cutout", ce_lane=LANE),
        ),
        "misrouted",
    ),
    "no proof": (lambda: _with(_evidence(GRANTED, kept=True), "ledger"), "misrouted"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_is_noticed(name: str) -> None:
    """Each kind of wrong is counted under its name."""
    build, counted = WRONG[name]
    assert judge(build()).wrong[counted] > 0

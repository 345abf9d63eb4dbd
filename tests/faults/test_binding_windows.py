"""Binding windows, checked against the rule stated in plain words."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.binding_windows import NEVER, WriterCall, confirmed, granted, revoked

MOMENTS = st.integers(0, 12)
MANY = settings(max_examples=500)


@st.composite
def calls(draw: st.DrawFn, actor: int = 0) -> WriterCall:
    """Draw a call that is recorded, changed nothing, was given up, or is still open."""
    begun, took = draw(MOMENTS), draw(st.integers(0, 4))
    call = WriterCall(f"owner-{actor}", draw(st.integers(0, 1)), draw(st.booleans()), begun)
    match draw(st.sampled_from(("recorded", "unchanged", "given up", "open"))):
        case "recorded":
            done = begun + took + draw(st.integers(0, 3)) if draw(st.booleans()) else NEVER
            is_confirmed = not call.grants and done < NEVER
            return call._replace(
                returned_ms=begun + took,
                decision_id="id",
                confirmed_ms=done if is_confirmed else NEVER,
            )
        case "unchanged":
            return call._replace(returned_ms=begun + took, grants=True)
        case "given up":
            return call._replace(returned_ms=begun + took, is_given_up=True)
        case _:
            return call


HISTORIES = st.integers(0, 4).flatmap(lambda count: st.tuples(*map(calls, range(count))))


def _is_unopposed(
    own: WriterCall, opposing: Sequence[tuple[WriterCall, int]], until_ms: int
) -> bool:
    """Return whether none of these calls was open at any time since `own` began."""
    return not any(end >= own.begun_ms and call.begun_ms <= until_ms for call, end in opposing)


@MANY
@given(HISTORIES, MOMENTS)
def test_a_revocation_binds_until_any_grant_begins(
    history: tuple[WriterCall, ...], at_ms: int
) -> None:
    """It binds from its return on, but not if a call to grant was open when it began."""
    grants = [(call, call.returned_ms) for call in history if call.grants]
    mine = [
        c for c in history if not c.grants and c.decision_id and _is_unopposed(c, grants, at_ms)
    ]
    assert (revoked(history).until(at_ms) > at_ms) == any(c.returned_ms < at_ms for c in mine)
    assert (confirmed(history).until(at_ms) > at_ms) == any(c.confirmed_ms < at_ms for c in mine)


@MANY
@given(HISTORIES, MOMENTS, st.integers(0, 4), st.dictionaries(st.integers(0, 3), MOMENTS))
def test_a_grant_binds_until_any_revocation_begins(
    history: tuple[WriterCall, ...], at_ms: int, more_ms: int, appended: dict[int, int]
) -> None:
    """A call that was given up counts as a revocation until its last record is appended."""
    last_appended = {f"owner-{n}": at for n, at in appended.items()}
    opposing = [
        (c, max(c.returned_ms, last_appended.get(c.actor, 0)) if c.is_given_up else c.returned_ms)
        for c in history
        if not c.grants or c.is_given_up or c.returned_ms == NEVER
    ]
    routed_ms = at_ms + more_ms
    binds = any(
        c.returned_ms < at_ms and _is_unopposed(c, opposing, routed_ms)
        for c in history
        if c.grants and c.decision_id
    )
    assert (granted(history, last_appended).until(at_ms) > routed_ms) == binds

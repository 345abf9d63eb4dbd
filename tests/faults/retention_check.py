"""Check what was retained against an independent statement of the retention rule.

Pure.  The rule is applied twice:

* By what the owners' calls returned (`binding_windows.py`).
* By broker timestamps alone: the router decides about a result between the append of its
  cut-out and the append of the result.  A decision in force for all of that time binds; one
  made within it may or may not have been seen.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.faults import binding_windows
from tests.faults.binding_windows import NEVER, SKEW_MS, Account, BindingWindows
from tests.faults.evidence import PARTS, Evidence
from tests.faults.observer import milliseconds, records_of_kind
from tests.faults.verdict import CONFIRMED, GRANTED, MUST_NOT_BE_RETAINED, REVOKED, Verdict

VOID_MS = 5000
"""A grant appended this long after it was made (or before it) does not count."""


class AppendedDecision(NamedTuple):
    """A decision: when it was appended, when its call returned, and whether it grants."""

    appended_ms: int
    returned_ms: int
    grants: bool


class _OwnerWindows(NamedTuple):
    """When the calls for an account bind its uploads, and whether two writers made them."""

    revoked: BindingWindows
    confirmed: BindingWindows
    granted: BindingWindows
    is_shared: bool


class _Routing(NamedTuple):
    """When an upload, its cut-out and its result were appended, and what was retained of it."""

    account: Account
    appended_ms: int
    cutout_ms: int
    result_ms: int
    is_handed_over: bool
    stored_parts: frozenset[str]

    @property
    def is_retained(self) -> bool:
        """Whether any part was handed over to the sink or stored."""
        return self.is_handed_over or bool(self.stored_parts)


def check_retention(
    evidence: Evidence, verdict: Verdict, handed_over: Counter[tuple[str, str]]
) -> None:
    """Count uploads that were retained against the rule, or not retained despite it."""
    decisions, windows = _decisions(evidence), _owner_windows(evidence)
    for routing in _routings(evidence, handed_over):
        _check_by_timestamps(verdict, routing, decisions.get(routing.account, []))
        if routing.account in windows:
            is_gapless = not evidence.missed.get("retained")
            _check_by_calls(verdict, routing, windows[routing.account], is_gapless=is_gapless)


def _routings(evidence: Evidence, handed_over: Counter[tuple[str, str]]) -> Iterator[_Routing]:
    uploads = evidence.first_appended("uploads")
    cutouts = evidence.first_appended("cutouts")
    results = evidence.first_appended("ephemeral")
    stored: dict[str, set[str]] = defaultdict(set)
    for upload, part, _grant in evidence.stored:
        stored[upload].add(part)
    for upload, sent in evidence.sent.items():
        appended_ms = uploads.get(upload, sent.appended_ms)
        yield _Routing(
            account=(sent.lane, sent.account),
            appended_ms=appended_ms,
            cutout_ms=cutouts.get(upload, appended_ms),
            result_ms=results.get(upload, NEVER),
            is_handed_over=any(handed_over[upload, part] for part in PARTS),
            stored_parts=frozenset(stored.get(upload, ())),
        )


def _check_by_timestamps(
    verdict: Verdict, routing: _Routing, decisions: list[AppendedDecision]
) -> None:
    candidates = _possibly_in_force(decisions, routing.cutout_ms, routing.result_ms)
    if not any(_allows_retention(each, routing.appended_ms) for each in candidates):
        verdict.bound[MUST_NOT_BE_RETAINED] += 1
        verdict.details["retained without a grant"] += routing.is_retained


def _possibly_in_force(
    decisions: list[AppendedDecision], from_ms: int, to_ms: int
) -> Iterator[AppendedDecision | None]:
    """Yield each decision that may have been the last one at some moment of this interval."""
    for each in reversed(decisions[: bisect_right(decisions, to_ms, key=lambda d: d.appended_ms)]):
        yield each
        if each.returned_ms < from_ms:
            return
    yield None


def _allows_retention(decision: AppendedDecision | None, appended_ms: int) -> bool:
    if decision is None or not decision.grants:
        return False
    return appended_ms - decision.appended_ms > SKEW_MS


def _check_by_calls(
    verdict: Verdict, routing: _Routing, windows: _OwnerWindows, *, is_gapless: bool
) -> None:
    """`is_gapless`: the observer has read every record of `retained`."""
    for claim, until_ms in _binding_claims(windows, routing.appended_ms, routing.result_ms):
        verdict.bound[claim] += 1
        verdict.shared[claim] += windows.is_shared
        if claim == REVOKED:  # every confirmed revocation was recorded before
            verdict.retained_after_revocation += routing.is_retained
        elif claim == GRANTED and len(routing.stored_parts) < len(PARTS):
            is_skipped = is_gapless and not routing.is_handed_over
            verdict.not_retained_after_grant += is_skipped or until_ms == NEVER


def _binding_claims(
    windows: _OwnerWindows, appended_ms: int, result_ms: int
) -> Iterator[tuple[str, int]]:
    """Yield what binds an upload, and until when."""
    for claim, binding in ((REVOKED, windows.revoked), (CONFIRMED, windows.confirmed)):
        if (until_ms := binding.until(appended_ms)) > appended_ms:
            yield claim, until_ms
    until_ms = windows.granted.until(appended_ms - SKEW_MS)
    if result_ms < NEVER and until_ms > result_ms:
        yield GRANTED, until_ms


def _decisions(evidence: Evidence) -> Mapping[Account, list[AppendedDecision]]:
    """Return the decisions of each account in their order."""
    returned = {c.decision_id: c.returned_ms for calls in evidence.calls.values() for c in calls}
    found: dict[Account, list[AppendedDecision]] = defaultdict(list)
    for lane, record in records_of_kind(evidence.topics, "consent"):
        if "ce_account" not in record.attributes:
            continue  # a heartbeat
        age_ms = record.appended_ms - milliseconds(record.attributes["ce_time"])
        returned_ms = returned.get(record.attributes["ce_id"], NEVER)
        grants = record.body["decision"] == "granted" and abs(age_ms) <= VOID_MS
        account = lane, record.attributes["ce_account"]
        found[account].append(AppendedDecision(record.appended_ms, returned_ms, grants))
    return found


def _owner_windows(evidence: Evidence) -> dict[Account, _OwnerWindows]:
    last_appended: dict[str, int] = {}
    for kind in ("consent", "ledger"):
        for _, record in records_of_kind(evidence.topics, kind):
            actor = record.body.get("actor", "")
            last_appended[actor] = max(record.appended_ms, last_appended.get(actor, 0))
    return {
        account: _OwnerWindows(
            binding_windows.revoked(calls),
            binding_windows.confirmed(calls),
            binding_windows.granted(calls, last_appended),
            len({call.writer for call in calls}) > 1,
        )
        for account, calls in evidence.calls.items()
    }

"""The two records of a decision, its ledger entry and its state, held against each other.

Pure.  What is promised of them whoever decides at once (`docs/decisions/0015`):

* What was recorded lies in both.
* What was recorded has no opposite decision with a newer entry and an older state: else the
  one would say that the account is opted in, and the other that it is not.
* Once a revocation was confirmed every grant before its entry is erased.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.faults.binding_windows import NEVER, Account, WriterCall
from tests.faults.observer import ObservedRecord, Topics, records_of_kind


class DecisionRecord(NamedTuple):
    """One record of a decision."""

    id: str
    grants: bool
    offset: int


def check_decisions(
    topics: Topics, calls: Mapping[Account, Sequence[WriterCall]], missed: Mapping[str, int]
) -> Counter[str]:
    """How often each of these was broken."""
    found: Counter[str] = Counter()
    states = _by_account(records_of_kind(topics, "consent"))
    entries = _by_account(
        (r.attributes.get("ce_lane", ""), r) for _, r in records_of_kind(topics, "ledger")
    )
    erased: dict[str, int] = {}
    for _, record in records_of_kind(topics, "erasures"):
        erased.setdefault(record.body["grant"], record.appended_ms)  # it may be said again
    for account, made in calls.items():
        recorded = {call.decision_id for call in made if call.decision_id}
        entry_of = {each.id: each.offset for each in entries[account]}
        state_ids = {each.id for each in states[account]}
        if not missed.get("ledger") and not missed.get(f"consent.{account[0]}"):
            found["recorded and not there"] += len(recorded - (entry_of.keys() & state_ids))
        found["in two orders"] += _in_two_orders(states[account], entry_of, recorded)
        for call in made:
            if call.confirmed_ms < NEVER and call.decision_id in entry_of:
                before = entry_of[call.decision_id]
                grants = [e for e in entries[account] if e.grants and e.offset < before]
                found["confirmed before all was erased"] += any(
                    erased.get(_grant_id(account, each.id), NEVER) > call.confirmed_ms
                    for each in grants
                )
    return found


def count_rewritten(topics: Topics, calls: Mapping[Account, Sequence[WriterCall]]) -> int:
    """How many calls found a rival: they wrote more than one decision."""
    written = Counter(record.body.get("actor") for _, record in records_of_kind(topics, "consent"))
    return sum(written[call.actor] > 1 for made in calls.values() for call in made)


def _in_two_orders(
    states: list[DecisionRecord], entry_of: Mapping[str, int], recorded: set[str]
) -> int:
    newest = {True: -1, False: -1}
    found = 0
    for state in states:
        entry = entry_of.get(state.id)
        if entry is None:
            continue
        found += state.id in recorded and newest[not state.grants] > entry
        newest[state.grants] = max(newest[state.grants], entry)
    return found


def _by_account(
    records: Iterable[tuple[str, ObservedRecord]],
) -> dict[Account, list[DecisionRecord]]:
    """Each account's decisions in their order; all of one account lie in one partition."""
    found: dict[Account, list[DecisionRecord]] = defaultdict(list)
    for lane, record in records:
        if made := record.body.get("decision"):
            account = (lane, record.attributes["ce_account"])
            id_ = record.attributes["ce_id"]
            found[account].append(DecisionRecord(id_, made == "granted", record.offset))
    return found


def _grant_id(account: Account, decision_id: str) -> str:
    """The name of a grant, as `docs/decisions/0007` derives it."""
    raw = hashlib.sha256("\0".join(("grant", *account, decision_id)).encode()).digest()[:16]
    value = int.from_bytes(raw, "big") & ~(0xF << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

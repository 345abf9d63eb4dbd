"""Check the two records of each decision, its ledger entry and its state, against each other.

Pure.  These hold even when two writers decide at once (`docs/decisions/0015`):

* Every decision has its ledger entry, and a recorded one is in both places.
* A recorded decision has no opposite decision with a newer entry and an older state: otherwise
  the ledger and the state would disagree about whether the account is opted in.
* Once a revocation is confirmed, every grant before its entry is erased.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.faults.binding_windows import NEVER, Account, WriterCall
from tests.faults.observer import ObservedRecord, Topics, records_of_kind


class DecisionRecord(NamedTuple):
    """A record of a decision, in `consent` or in the ledger."""

    id: str
    grants: bool
    offset: int


def check_decisions(
    topics: Topics, calls: Mapping[Account, Sequence[WriterCall]], missed: Mapping[str, int]
) -> Counter[str]:
    """Count the violations of each of these rules."""
    found: Counter[str] = Counter()
    states = _by_account(records_of_kind(topics, "consent"))
    entries = _by_account(records_of_kind(topics, "ledger"))
    erased: dict[str, int] = {}
    for _, record in records_of_kind(topics, "erasures"):
        erased.setdefault(
            record.body["grant"], record.appended_ms
        )  # an erasure may be written twice
    found["decision without a proof"] = count_unproven(topics)
    for account, account_calls in calls.items():
        recorded = {call.decision_id for call in account_calls if call.decision_id}
        entry_of = {each.id: each.offset for each in entries[account]}
        state_ids = {each.id for each in states[account]}
        if not missed.get(f"ledger.{account[0]}") and not missed.get(f"consent.{account[0]}"):
            found["recorded, but missing"] += len(recorded - (entry_of.keys() & state_ids))
        found["ordered differently in state and ledger"] += _count_misordered(
            states[account], entry_of, recorded
        )
        for call in account_calls:
            if call.confirmed_ms < NEVER and call.decision_id in entry_of:
                before = entry_of[call.decision_id]
                grants = [e for e in entries[account] if e.grants and e.offset < before]
                found["confirmed before every grant was erased"] += any(
                    erased.get(_grant_id(account, each.id), NEVER) > call.confirmed_ms
                    for each in grants
                )
    return found


def count_unproven(topics: Topics) -> int:
    """Count the decisions without a ledger entry."""
    proven = {record.attributes.get("ce_id") for _, record in records_of_kind(topics, "ledger")}
    decisions = [
        record.attributes["ce_id"]
        for _, record in records_of_kind(topics, "consent")
        if "ce_account" in record.attributes
    ]
    return sum(decision not in proven for decision in decisions)


def count_rewritten(topics: Topics, calls: Mapping[Account, Sequence[WriterCall]]) -> int:
    """Count the calls that met an opposite decision: they wrote more than one decision."""
    written = Counter(record.body.get("actor") for _, record in records_of_kind(topics, "consent"))
    return sum(written[call.actor] > 1 for each in calls.values() for call in each)


def _count_misordered(
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
    """Return each account's decisions in order; those of one account share a partition."""
    found: dict[Account, list[DecisionRecord]] = defaultdict(list)
    for lane, record in records:
        if decision := record.body.get("decision"):
            account = (lane, record.attributes["ce_account"])
            id_ = record.attributes["ce_id"]
            found[account].append(DecisionRecord(id_, decision == "granted", record.offset))
    return found


def _grant_id(account: Account, decision_id: str) -> str:
    """Derive a grant's id as `docs/decisions/0007` defines it."""
    raw = hashlib.sha256("\0".join(("grant", *account, decision_id)).encode()).digest()[:16]
    value = int.from_bytes(raw, "big") & ~(0xF << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

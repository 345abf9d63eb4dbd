"""What came of it: judged from what was sent and what was seen, without the router's code.

Pure.  The rule of keeping is written here a second time, from its words, and twice.  By what
owners were told (`binding_windows.py`); and by the brokers' times alone: a result is decided
between the moment its cut-out was appended and the moment the result was.  What stood in all of
that time binds; a decision made within it may or may not have been seen.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults import binding_windows, decision_check
from tests.faults.binding_windows import NEVER, SKEW_MS, Account, BindingWindows, WriterCall
from tests.faults.observer import ObservedRecord, Topics, milliseconds, records_of_kind

VOID_MS = 5000
"""A grant that was appended this long after its making (or before it) does not count."""
PARTS = ("original", "cutout")
MISSED = "missed by the checker"
REVOKED = "made after a recorded revocation"
CONFIRMED = "made after a confirmed revocation"
GRANTED = "made after a recorded grant"
SECOND_RESULT, SECOND_HAND_OVER = "a second result", "a second hand-over"
SECOND_OBJECT = "a second object"
UPLOAD_TWICE = "an upload that lies twice"
"""Not itself duplicated, but it may be what explains the others."""
NOT_WRONG = frozenset(
    {
        "result of an unconfirmed upload",
        MISSED,
        SECOND_RESULT,
        SECOND_HAND_OVER,
        SECOND_OBJECT,
        UPLOAD_TWICE,
    }
)


class AcknowledgedUpload(NamedTuple):
    """An upload that was acknowledged."""

    lane: str
    account: str
    appended_ms: int


class AppendedDecision(NamedTuple):
    """A decision: when it was appended, acknowledged, and whether it grants."""

    appended_ms: int
    known_ms: int
    grants: bool


@dataclass
class Evidence:
    """All that was sent and seen."""

    sent: Mapping[str, AcknowledgedUpload]
    topics: Topics
    stored: Counter[tuple[str, str, str]]
    """Objects in the bucket, by upload, part and grant."""
    calls: Mapping[Account, Sequence[WriterCall]]
    """All calls of the writers."""
    missed: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Verdict:
    """What is wrong, in numbers; all zero is right."""

    lost: int = 0
    duplicated: int = 0
    misrouted: int = 0
    across_lanes: int = 0
    retained_after_revocation: int = 0
    not_retained_after_grant: int = 0
    bound: Counter[str] = field(default_factory=Counter)
    """How many uploads the strict rules were about; not an error."""
    shared: Counter[str] = field(default_factory=Counter)
    """How many of these were for accounts that two writers decided for."""
    mended: int = 0
    """Decisions that met an opposite one, and were made again or taken back."""
    details: Counter[str] = field(default_factory=Counter)

    @property
    def wrong(self) -> dict[str, int]:
        """What must be zero."""
        return {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "misrouted": self.misrouted,
            "across_lanes": self.across_lanes,
            "retained_after_revocation": self.retained_after_revocation,
            "not_retained_after_grant": self.not_retained_after_grant,
        }

    @property
    def is_incomplete(self) -> bool:
        """Whether something is missing that may still be on its way."""
        halves = self.details["one part without the other"]
        return bool(self.lost or self.not_retained_after_grant or halves)


def judge(evidence: Evidence) -> Verdict:
    """Compare what was sent with what lies in the topics and in the bucket."""
    verdict = Verdict()
    _results(evidence, verdict)
    retained = _retained(evidence, verdict)
    _pictures(evidence, verdict)
    _keeping(evidence, verdict, retained)
    _proofs(evidence, verdict)
    verdict.details += decision_check.check_decisions(
        evidence.topics, evidence.calls, evidence.missed
    )
    verdict.mended = decision_check.count_rewritten(evidence.topics, evidence.calls)
    verdict.misrouted = sum(n for what, n in verdict.details.items() if what not in NOT_WRONG)
    verdict.details[MISSED] += sum(evidence.missed.values())
    return verdict


def _results(evidence: Evidence, verdict: Verdict) -> None:
    seen: Counter[str] = Counter()
    for lane, record in records_of_kind(evidence.topics, "ephemeral"):
        upload = record.attributes["ce_id"]
        seen[upload] += 1
        sent = evidence.sent.get(upload)
        if sent is None:
            verdict.details["result of an unconfirmed upload"] += 1
        elif sent.lane != lane:
            verdict.across_lanes += 1
        elif sent.account != record.attributes["ce_account"]:
            verdict.details["delivered to another account"] += 1
        if not record.attributes["ce_type"].startswith("com.backgrounderase.image.cutout."):
            verdict.details["failed though it was a picture"] += 1
    verdict.lost = len(evidence.sent.keys() - seen.keys())
    _count_twice(verdict, SECOND_RESULT, seen)
    uploads = Counter(
        record.attributes["ce_id"] for _, record in records_of_kind(evidence.topics, "uploads")
    )
    verdict.details[UPLOAD_TWICE] += _more_than_once(uploads)


def _count_twice(verdict: Verdict, what: str, counts: Mapping[Hashable, int]) -> None:
    again = _more_than_once(counts)
    verdict.duplicated += again
    verdict.details[what] += again


def _more_than_once(counts: Mapping[Hashable, int]) -> int:
    return sum(count - 1 for count in counts.values())


def _retained(evidence: Evidence, verdict: Verdict) -> Counter[tuple[str, str]]:
    """How often each part of each upload was handed to the sink."""
    parts: Counter[tuple[str, str]] = Counter()
    for _, record in records_of_kind(evidence.topics, "retained"):
        given = record.attributes
        parts[given["ce_id"], given["ce_part"]] += 1
        sent = evidence.sent.get(given["ce_id"])
        if sent and sent.lane != given["ce_lane"]:
            verdict.across_lanes += 1
        elif sent and sent.account != given["ce_account"]:
            verdict.details["retained for another account"] += 1
    _count_twice(verdict, SECOND_HAND_OVER, parts)
    objects: Counter[tuple[str, str]] = Counter()
    for (upload, part, _grant), count in evidence.stored.items():
        objects[upload, part] += count
    _count_twice(verdict, SECOND_OBJECT, objects)
    if not evidence.missed.get("retained"):
        verdict.details["stored though never handed over"] += len(objects.keys() - parts.keys())
        kept = {upload for upload, _ in parts}
        verdict.details["one part without the other"] += sum(
            (upload, part) not in parts for upload in kept for part in PARTS
        )
    return parts


def _pictures(evidence: Evidence, verdict: Verdict) -> None:
    """What is delivered and kept are the very bytes that were uploaded and cut out."""
    uploads, cutouts = _digests(evidence, "uploads"), _digests(evidence, "cutouts")
    for _, record in records_of_kind(evidence.topics, "ephemeral"):
        verdict.details["another picture"] += _is_another(record, cutouts)
    for _, record in records_of_kind(evidence.topics, "retained"):
        origin = uploads if record.attributes["ce_part"] == "original" else cutouts
        verdict.details["another picture"] += _is_another(record, origin)


def _digests(evidence: Evidence, kind: str) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = defaultdict(set)
    for _, record in records_of_kind(evidence.topics, kind):
        found[record.attributes["ce_id"]].add(record.digest)
    return found


def _is_another(record: ObservedRecord, origin: Mapping[str, set[bytes]]) -> bool:
    known = origin.get(record.attributes["ce_id"])
    return known is not None and record.digest not in known  # unknown: gone before it was seen


def _decisions(evidence: Evidence) -> dict[Account, list[AppendedDecision]]:
    """Every account's decisions, in their order."""
    answered = {c.decision_id: c.answered_ms for made in evidence.calls.values() for c in made}
    found: dict[Account, list[AppendedDecision]] = defaultdict(list)
    for lane, record in records_of_kind(evidence.topics, "consent"):
        if "ce_account" not in record.attributes:
            continue  # a heartbeat
        age = record.appended_ms - milliseconds(record.attributes["ce_time"])
        known = answered.get(record.attributes["ce_id"], NEVER)
        grants = record.body["decision"] == "granted" and abs(age) <= VOID_MS
        account = lane, record.attributes["ce_account"]
        found[account].append(AppendedDecision(record.appended_ms, known, grants))
    return found


class _Told(NamedTuple):
    """What the owner of an account was told, and whether by two writers."""

    revoked: BindingWindows
    confirmed: BindingWindows
    granted: BindingWindows
    is_shared: bool


def _told(evidence: Evidence) -> dict[Account, _Told]:
    landed: dict[str, int] = {}
    for kind in ("consent", "ledger"):
        for _, record in records_of_kind(evidence.topics, kind):
            actor = record.body.get("actor", "")
            landed[actor] = max(record.appended_ms, landed.get(actor, 0))
    return {
        account: _Told(
            binding_windows.revoked(calls),
            binding_windows.confirmed(calls),
            binding_windows.granted(calls, landed),
            len({call.writer for call in calls}) > 1,
        )
        for account, calls in evidence.calls.items()
    }


def _keeping(evidence: Evidence, verdict: Verdict, retained: Counter[tuple[str, str]]) -> None:
    decided, told = _decisions(evidence), _told(evidence)
    appended = _first(evidence, "cutouts")
    routed = _first(evidence, "ephemeral")
    uploads = _first(evidence, "uploads")
    stored = _objects(evidence)
    for upload, sent in evidence.sent.items():
        account = sent.lane, sent.account
        since_ms, routed_ms = uploads.get(upload, sent.appended_ms), routed.get(upload, NEVER)
        handed = any(retained[upload, part] for part in PARTS)
        objects = stored.get(upload, set())
        is_kept = handed or bool(objects)
        standing = _standing(decided.get(account, []), appended.get(upload, since_ms), routed_ms)
        if not any(_keeps(each, since_ms) for each in standing):
            verdict.bound["must not be retained"] += 1
            verdict.details["retained without a grant"] += is_kept
        if account not in told:
            continue
        for claim, until_ms in _claims(told[account], since_ms, routed_ms):
            verdict.bound[claim] += 1
            verdict.shared[claim] += told[account].is_shared
            if claim == REVOKED:  # and every confirmed one was recorded
                verdict.retained_after_revocation += is_kept
            elif claim == GRANTED and len(objects) < len(PARTS):
                is_unseen = not handed and not evidence.missed.get("retained")
                verdict.not_retained_after_grant += is_unseen or until_ms == NEVER


def _claims(told: _Told, since_ms: int, routed_ms: int) -> Iterator[tuple[str, int]]:
    """What binds an upload, and until when."""
    for claim, windows in ((REVOKED, told.revoked), (CONFIRMED, told.confirmed)):
        if (until_ms := windows.until(since_ms)) > since_ms:
            yield claim, until_ms
    until_ms = told.granted.until(since_ms - SKEW_MS)
    if routed_ms < NEVER and until_ms > routed_ms:
        yield GRANTED, until_ms


def _objects(evidence: Evidence) -> dict[str, set[str]]:
    """The parts of each upload that lie in the bucket."""
    found: dict[str, set[str]] = defaultdict(set)
    for upload, part, _grant in evidence.stored:
        found[upload].add(part)
    return found


def _standing(
    made: list[AppendedDecision], from_ms: int, to_ms: int
) -> Iterator[AppendedDecision | None]:
    """The decisions that may have been the last one somewhere between these moments."""
    for each in reversed(made[: bisect_right(made, to_ms, key=lambda each: each.appended_ms)]):
        yield each
        if each.known_ms < from_ms:
            return
    yield None


def _keeps(decision: AppendedDecision | None, since_ms: int) -> bool:
    if decision is None or not decision.grants:
        return False
    return since_ms - decision.appended_ms > SKEW_MS


def _first(evidence: Evidence, kind: str) -> dict[str, int]:
    """When each upload first appeared in topics of a kind."""
    found: dict[str, int] = {}
    for _, record in records_of_kind(evidence.topics, kind):
        upload = record.attributes["ce_id"]
        found[upload] = min(record.appended_ms, found.get(upload, NEVER))
    return found


def _proofs(evidence: Evidence, verdict: Verdict) -> None:
    """Every decision has its proof in the ledger."""
    proven = {
        record.attributes.get("ce_id") for _, record in records_of_kind(evidence.topics, "ledger")
    }
    for _, record in records_of_kind(evidence.topics, "consent"):
        if "ce_account" in record.attributes:
            verdict.details["decision without a proof"] += record.attributes["ce_id"] not in proven

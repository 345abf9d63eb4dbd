"""What came of it: judged from what was sent and what was seen, without the router's code.

Pure.  The rule of keeping is written here a second time, from its words, and by the brokers'
times alone: a result is decided between the moment its cut-out was appended and the moment
the result was.  What stood in all of that time binds; a decision made within it may or may
not have been seen.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.observer import Seen, milliseconds

SKEW_MS = 2000
"""An upload counts as made after a grant only if it was appended later by more than this."""
VOID_MS = 5000
"""A grant that was appended this long after its making (or before it) does not count."""
PARTS = ("original", "cutout")
NEVER = 2**62

Account = tuple[str, str]
"""Lane and account."""


class Sent(NamedTuple):
    """An upload that was acknowledged."""

    lane: str
    account: str
    appended_ms: int


class Made(NamedTuple):
    """A decision: when it was appended, acknowledged, and whether it grants."""

    appended_ms: int
    known_ms: int
    grants: bool


@dataclass
class Evidence:
    """All that was sent and seen."""

    sent: Mapping[str, Sent]
    topics: Mapping[str, Mapping[tuple[int, int], Seen]]
    stored: Counter[tuple[str, str, str]]
    """Objects in the bucket, by upload, part and grant."""
    known: Mapping[tuple[str, str, int], int]
    """When a decision was acknowledged, by lane, account and its time in the topic."""
    confirmed: Mapping[Account, list[int]]
    """When revocations were confirmed."""
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


def judge(evidence: Evidence) -> Verdict:
    """Compare what was sent with what lies in the topics and in the bucket."""
    verdict = Verdict()
    _results(evidence, verdict)
    retained = _retained(evidence, verdict)
    _keeping(evidence, verdict, retained)
    _proofs(evidence, verdict)
    for what, count in verdict.details.items():
        if what not in ("result of an unconfirmed upload", "missed by the checker"):
            verdict.misrouted += count
    verdict.details["missed by the checker"] += sum(evidence.missed.values())
    return verdict


def _records(evidence: Evidence, kind: str) -> Iterable[tuple[str, Seen]]:
    """Lane and record of all topics of a kind, in the order of their offsets."""
    for topic, records in evidence.topics.items():
        name, _, lane = topic.partition(".")
        if name == kind:
            yield from ((lane, records[place]) for place in sorted(records))


def _results(evidence: Evidence, verdict: Verdict) -> None:
    seen: Counter[str] = Counter()
    for lane, record in _records(evidence, "ephemeral"):
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
    verdict.duplicated += sum(count - 1 for count in seen.values())


def _retained(evidence: Evidence, verdict: Verdict) -> Counter[tuple[str, str]]:
    """How often each part of each upload was handed to the sink."""
    parts: Counter[tuple[str, str]] = Counter()
    for _, record in _records(evidence, "retained"):
        given = record.attributes
        parts[given["ce_id"], given["ce_part"]] += 1
        sent = evidence.sent.get(given["ce_id"])
        if sent and sent.lane != given["ce_lane"]:
            verdict.across_lanes += 1
        elif sent and sent.account != given["ce_account"]:
            verdict.details["retained for another account"] += 1
    verdict.duplicated += sum(count - 1 for count in parts.values())
    objects: Counter[tuple[str, str]] = Counter()
    for (upload, part, _grant), count in evidence.stored.items():
        objects[upload, part] += count
    verdict.duplicated += sum(count - 1 for count in objects.values())
    if not evidence.missed.get("retained"):
        verdict.details["stored though never handed over"] += len(objects.keys() - parts.keys())
        kept = {upload for upload, _ in parts}
        verdict.details["one part without the other"] += sum(
            (upload, part) not in parts for upload in kept for part in PARTS
        )
    return parts


def _decisions(evidence: Evidence) -> dict[Account, list[Made]]:
    """Every account's decisions, in their order."""
    found: dict[Account, list[Made]] = defaultdict(list)
    for lane, record in _records(evidence, "consent"):
        if "ce_account" not in record.attributes:
            continue  # a heartbeat
        account = record.attributes["ce_account"]
        age = record.appended_ms - milliseconds(record.attributes["ce_time"])
        known = evidence.known.get((lane, account, record.appended_ms), NEVER)
        grants = record.decision == "granted" and abs(age) <= VOID_MS
        found[lane, account].append(Made(record.appended_ms, known, grants))
    return found


def _keeping(evidence: Evidence, verdict: Verdict, retained: Counter[tuple[str, str]]) -> None:
    decisions = _decisions(evidence)
    appended = _first(evidence, "cutouts")
    routed = _first(evidence, "ephemeral")
    uploads = _first(evidence, "uploads")
    stored = _objects(evidence)
    for upload, sent in evidence.sent.items():
        made = decisions.get((sent.lane, sent.account), [])
        since_ms = uploads.get(upload, sent.appended_ms)
        standing = _standing(made, appended.get(upload, since_ms), routed.get(upload, NEVER))
        keeps = {_keeps(each, since_ms) for each in standing}
        handed = any(retained[upload, part] for part in PARTS)
        objects = stored.get(upload, set())
        if keeps == {False}:
            verdict.bound["must not be retained"] += 1
            verdict.details["retained without a grant"] += handed or bool(objects)
        if _revoked(evidence, made, sent, since_ms):
            verdict.bound["made after a confirmed revocation"] += 1
            verdict.retained_after_revocation += handed or bool(objects)
        if keeps == {True} and upload in routed:
            verdict.bound["made after a confirmed grant"] += 1
            later = any(not d.grants and d.appended_ms > since_ms for d in made)
            missing = len(objects) < len(PARTS) and (not later or _unseen(evidence, handed))
            verdict.not_retained_after_grant += missing


def _unseen(evidence: Evidence, handed: bool) -> bool:
    """Whether a record was surely never handed to the sink."""
    return not handed and not evidence.missed.get("retained")


def _objects(evidence: Evidence) -> dict[str, set[str]]:
    """The parts of each upload that lie in the bucket."""
    found: dict[str, set[str]] = defaultdict(set)
    for upload, part, _grant in evidence.stored:
        found[upload].add(part)
    return found


def _standing(made: list[Made], from_ms: int, to_ms: int) -> list[Made | None]:
    """The decisions that may have been the last one somewhere between these moments."""
    certain = max((n for n, each in enumerate(made) if each.known_ms < from_ms), default=-1)
    last = [made[certain] if certain >= 0 else None]
    return [*last, *(each for each in made[certain + 1 :] if each.appended_ms <= to_ms)]


def _keeps(decision: Made | None, since_ms: int) -> bool:
    if decision is None or not decision.grants:
        return False
    return since_ms - decision.appended_ms > SKEW_MS


def _revoked(evidence: Evidence, made: list[Made], sent: Sent, since_ms: int) -> bool:
    """Whether it was made after a confirmed revocation, and no grant came in between."""
    times = evidence.confirmed.get((sent.lane, sent.account), [])
    before = [at for at in times if at < since_ms]
    if not before:
        return False
    revoked = [n for n, each in enumerate(made) if each.known_ms <= max(before)]
    later = made[max(revoked, default=-1) + 1 :]
    return not made[max(revoked, default=-1)].grants and not any(
        each.grants and each.appended_ms <= since_ms for each in later
    )


def _first(evidence: Evidence, kind: str) -> dict[str, int]:
    """When each upload first appeared in topics of a kind."""
    found: dict[str, int] = {}
    for _, record in _records(evidence, kind):
        upload = record.attributes["ce_id"]
        found[upload] = min(record.appended_ms, found.get(upload, NEVER))
    return found


def _proofs(evidence: Evidence, verdict: Verdict) -> None:
    """Every decision has its proof in the ledger."""
    proven = {record.attributes.get("ce_id") for _, record in _records(evidence, "ledger")}
    for _, record in _records(evidence, "consent"):
        if "ce_account" in record.attributes:
            verdict.details["decision without a proof"] += record.attributes["ce_id"] not in proven

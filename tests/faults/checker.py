"""The checker: judge a storm by what was sent and observed, without the router's code.

Pure.  This module checks deliveries, hand-overs to the sink and objects; `retention_check.py`
checks what had to be retained, `decision_check.py` the records of the decisions.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from tests.faults import decision_check
from tests.faults.evidence import PARTS, Evidence
from tests.faults.observer import ObservedRecord, records_of_kind
from tests.faults.retention_check import check_retention
from tests.faults.verdict import (
    HALF_RETAINED,
    MISSED,
    NOT_WRONG,
    SECOND_HAND_OVER,
    SECOND_OBJECT,
    SECOND_RESULT,
    UNCONFIRMED_RESULT,
    UPLOAD_TWICE,
    Verdict,
)


def judge(evidence: Evidence) -> Verdict:
    """Compare what was sent with what the topics and the bucket hold."""
    verdict = Verdict()
    _check_results(evidence, verdict)
    handed_over = _check_hand_overs(evidence, verdict)
    _check_objects(evidence, verdict, handed_over)
    _check_digests(evidence, verdict)
    check_retention(evidence, verdict, handed_over)
    verdict.details += decision_check.check_decisions(
        evidence.topics, evidence.calls, evidence.missed
    )
    verdict.rewritten = decision_check.count_rewritten(evidence.topics, evidence.calls)
    verdict.misrouted = sum(n for name, n in verdict.details.items() if name not in NOT_WRONG)
    verdict.details[MISSED] += sum(evidence.missed.values())
    return verdict


def _check_results(evidence: Evidence, verdict: Verdict) -> None:
    results: Counter[str] = Counter()
    for lane, record in records_of_kind(evidence.topics, "ephemeral"):
        upload = record.attributes["ce_id"]
        results[upload] += 1
        sent = evidence.sent.get(upload)
        if sent is None:
            verdict.details[UNCONFIRMED_RESULT] += 1
        elif sent.lane != lane:
            verdict.across_lanes += 1
        elif sent.account != record.attributes["ce_account"]:
            verdict.details["delivered to another account"] += 1
        if not record.attributes["ce_type"].startswith("com.backgrounderase.image.cutout."):
            verdict.details["failed, although it was a valid picture"] += 1
    verdict.lost = len(evidence.sent.keys() - results.keys())
    _count_duplicates(verdict, SECOND_RESULT, results.values())
    uploads = Counter(
        record.attributes["ce_id"] for _, record in records_of_kind(evidence.topics, "uploads")
    )
    verdict.details[UPLOAD_TWICE] += _surplus(uploads.values())


def _check_hand_overs(evidence: Evidence, verdict: Verdict) -> Counter[tuple[str, str]]:
    """Count how often each part of each upload was handed over to the sink."""
    parts: Counter[tuple[str, str]] = Counter()
    for _, record in records_of_kind(evidence.topics, "retained"):
        attributes = record.attributes
        parts[attributes["ce_id"], attributes["ce_part"]] += 1
        sent = evidence.sent.get(attributes["ce_id"])
        if sent and sent.lane != attributes["ce_lane"]:
            verdict.across_lanes += 1
        elif sent and sent.account != attributes["ce_account"]:
            verdict.details["retained for another account"] += 1
    _count_duplicates(verdict, SECOND_HAND_OVER, parts.values())
    return parts


def _check_objects(
    evidence: Evidence, verdict: Verdict, handed_over: Counter[tuple[str, str]]
) -> None:
    objects: Counter[tuple[str, str]] = Counter()
    for (upload, part, _grant), count in evidence.stored.items():
        objects[upload, part] += count
    _count_duplicates(verdict, SECOND_OBJECT, objects.values())
    if not evidence.missed.get("retained"):
        never_handed_over = objects.keys() - handed_over.keys()
        verdict.details["stored, but never handed over"] += len(never_handed_over)
        retained = {upload for upload, _ in handed_over}
        verdict.details[HALF_RETAINED] += sum(
            (upload, part) not in handed_over for upload in retained for part in PARTS
        )


def _check_digests(evidence: Evidence, verdict: Verdict) -> None:
    """Check that deliveries and hand-overs hold the very bytes of the upload or the cut-out."""
    uploads, cutouts = _digests(evidence, "uploads"), _digests(evidence, "cutouts")
    for _, record in records_of_kind(evidence.topics, "ephemeral"):
        verdict.details["another picture"] += _differs(record, cutouts)
    for _, record in records_of_kind(evidence.topics, "retained"):
        origin = uploads if record.attributes["ce_part"] == "original" else cutouts
        verdict.details["another picture"] += _differs(record, origin)


def _digests(evidence: Evidence, kind: str) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = defaultdict(set)
    for _, record in records_of_kind(evidence.topics, kind):
        found[record.attributes["ce_id"]].add(record.digest)
    return found


def _differs(record: ObservedRecord, origin: Mapping[str, set[bytes]]) -> bool:
    known = origin.get(record.attributes["ce_id"])
    return known is not None and record.digest not in known  # None: deleted before it was read


def _count_duplicates(verdict: Verdict, detail: str, counts: Iterable[int]) -> None:
    surplus = _surplus(counts)
    verdict.duplicated += surplus
    verdict.details[detail] += surplus


def _surplus(counts: Iterable[int]) -> int:
    return sum(count - 1 for count in counts)

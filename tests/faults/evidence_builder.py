"""Build the evidence of one upload and the decisions about its account.

Times count in milliseconds from the append of the upload, at `T`.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from erasestream.schemas.ids import AccountId, Lane, grant_id
from tests.faults.binding_windows import NEVER, WriterCall
from tests.faults.evidence import PARTS, AcknowledgedUpload, Evidence
from tests.faults.observer import ObservedRecord

Records = Mapping[tuple[int, int], ObservedRecord]

UPLOAD, ACCOUNT, LANE = "u", "a", "shop"
T = 1_000_000

_actors = (f"owner-{number}" for number in itertools.count())


class DecisionTrace(NamedTuple):
    """A call, and when its ledger entry and its state were appended; None is never."""

    call: WriterCall
    entry_ms: int | None
    state_ms: int | None
    erased_ms: int | None = None


def grant(begun: int, returned: int | None = None, **more: int | None) -> DecisionTrace:
    """Return a recorded grant."""
    return _decision(True, begun, returned, **more)


def revoke(begun: int, returned: int | None = None, **more: int | None) -> DecisionTrace:
    """Return a recorded revocation."""
    return _decision(False, begun, returned, **more)


def given_up(trace: DecisionTrace) -> DecisionTrace:
    """Return the trace with a call that was given up."""
    return trace._replace(call=trace.call._replace(decision_id=None, is_given_up=True))


def _decision(grants: bool, begun: int, returned: int | None, **more: int | None) -> DecisionTrace:
    returned = begun + 20 if returned is None else returned
    state = begun + 10
    call = WriterCall(
        actor=next(_actors),
        writer=more.get("writer") or 0,
        grants=grants,
        begun_ms=T + begun,
        returned_ms=T + returned,
        confirmed_ms=NEVER if (at := more.get("confirmed")) is None else T + at,
    )
    call = call._replace(decision_id=f"id-of-{call.actor}")
    appended = {"entry": state - 5, "state": state, "erased": None} | more
    return DecisionTrace(
        call,
        *(
            None if (at := appended[name]) is None else T + at
            for name in ("entry", "state", "erased")
        ),
    )


def picture_record(
    at_ms: int, kind: str = "cutout", offset: int = 0, **more: str
) -> ObservedRecord:
    """Return a record of the upload: its image, its cut-out or a part to retain."""
    type_ = f"com.backgrounderase.image.{kind}.v1"
    attributes = {"ce_id": UPLOAD, "ce_account": ACCOUNT, "ce_type": type_, **more}
    return ObservedRecord(attributes, 0, offset, at_ms)


def evidence_of(*traces: DecisionTrace, retained: bool) -> Evidence:
    """Return the evidence of an upload at T, its cut-out, its result and these decisions."""
    parts = {
        (0, n): picture_record(T + 30, "retained", n, ce_part=part, ce_lane=LANE)
        for n, part in enumerate(PARTS)
    }
    return Evidence(
        sent={UPLOAD: AcknowledgedUpload(LANE, ACCOUNT, T)},
        topics={
            "uploads.shop": {(0, 0): picture_record(T, "uploaded")},
            "cutouts.shop": {(0, 0): picture_record(T + 20)},
            "ephemeral.shop": {(0, 0): picture_record(T + 30)},
            "ephemeral.bulk": {},
            "retained": parts if retained else {},
            "consent.shop": _decision_records(traces, lambda trace: trace.state_ms),
            "ledger.shop": _decision_records(traces, lambda trace: trace.entry_ms),
            "erasures.shop": _erasures(traces),
        },
        stored=Counter({(UPLOAD, part, "g"): 1 for part in PARTS} if retained else {}),
        calls={(LANE, ACCOUNT): [trace.call for trace in traces]} if traces else {},
    )


def with_records(evidence: Evidence, topic: str, *records: ObservedRecord) -> Evidence:
    """Return the evidence with only these records in a topic."""
    changed = {(0, n): record._replace(offset=n) for n, record in enumerate(records)}
    return replace(evidence, topics={**evidence.topics, topic: changed})


def _decision_records(
    traces: tuple[DecisionTrace, ...], appended_ms: Callable[[DecisionTrace], int | None]
) -> Records:
    ordered = sorted((at, trace) for trace in traces if (at := appended_ms(trace)) is not None)
    return {(0, n): _decision_record(trace, n, at) for n, (at, trace) in enumerate(ordered)}


def _decision_record(trace: DecisionTrace, offset: int, at_ms: int) -> ObservedRecord:
    attributes = {
        "ce_id": f"id-of-{trace.call.actor}",
        "ce_account": ACCOUNT,
        "ce_lane": LANE,
        "ce_time": _iso(trace.call.begun_ms),
    }
    decision = "granted" if trace.call.grants else "revoked"
    body = {"decision": decision, "actor": trace.call.actor}
    return ObservedRecord(attributes, 0, offset, at_ms, body)


def _erasures(traces: tuple[DecisionTrace, ...]) -> Records:
    """Return each erasure twice, as if the eraser was killed and wrote it again later."""
    found: dict[tuple[int, int], ObservedRecord] = {}
    for trace in traces:
        if trace.erased_ms is not None:
            grant = grant_id(Lane(LANE), AccountId(ACCOUNT), f"id-of-{trace.call.actor}")
            for at in (trace.erased_ms, trace.erased_ms + 5000):
                n = len(found)
                found[0, n] = ObservedRecord({"ce_account": ACCOUNT}, 0, n, at, {"grant": grant})
    return found


def _iso(at_ms: int) -> str:
    return f"1970-01-01T00:{at_ms // 60000:02}:{at_ms // 1000 % 60:02}.{at_ms % 1000:03}Z"

"""Count what a storm of erasures met: pictures under way, and kills within steps.  Pure.

A storm without these has shown nothing.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from erasestream.schemas.events.receipts import ErasureLeaf, UploadErasureLeaf, decode_leaf
from tests.faults.erasure_evidence import ErasureEvidence


def races(evidence: ErasureEvidence) -> Counter[str]:
    """Count the erasures that raced with a picture: it was stored after the owner's action.

    `grants_marked`: those of grants in which it was stored after the marker, and so deleted later.
    """
    latest = evidence.last_stored()
    found = Counter(grants=0, grants_marked=0, uploads=0)
    for leaf in map(decode_leaf, evidence.leaves):
        if isinstance(leaf, ErasureLeaf) and leaf.grant in latest:
            found["grants"] += latest[leaf.grant] > leaf.recorded
            found["grants_marked"] += latest[leaf.grant] > leaf.confirmed
    found["uploads"] += sum(
        latest[upload] > recorded
        for upload, recorded in dict(_erased_uploads(evidence)).items()
        if upload in latest
    )
    return found


def killed_before_commit(evidence: ErasureEvidence) -> int:
    """Count the kills of a sink that had stored a picture and not committed its offset."""
    first = {
        (name.grant, name.upload_id, name.part): min(times)
        for name, times in evidence.created.items()
    }
    stored = [
        (each.at, each.offset, first[each.picture])
        for each in evidence.written
        if each.picture in first
    ]
    return sum(
        any(
            offset >= kill.committed[at] and created < kill.time
            for at, offset, created in stored
            if at in kill.committed
        )
        for kill in evidence.sink_kills
    )


def _erased_uploads(evidence: ErasureEvidence) -> Iterator[tuple[str, datetime]]:
    for attested in evidence.attested.values():
        for leaf, subject in attested:
            if isinstance(leaf, UploadErasureLeaf) and subject is not None:
                yield evidence.requests[subject.about], leaf.recorded

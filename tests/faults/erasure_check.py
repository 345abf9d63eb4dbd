"""Judge the evidence of a storm of erasures by what owners did.  Pure.

=======================  ======================================================================
counted as               if
=======================  ======================================================================
orphans                  an object of an ended grant or an erased upload is left
keys_from_the_dead       a key of an ended grant is left
still_opened             a picture of an ended grant or an erased upload opens
strange                  an object is left that is no picture in `retained`
lost, duplicated         a picture that is to be kept has no object, or two
overwritten              it was created twice
unopened                 it does not open, or is another
receipts_...             see `receipts_check.py`
=======================  ======================================================================
"""

from collections import Counter
from hashlib import sha256

from erasestream.schemas.events.images import Part
from erasestream.sinks.images.object_names import StoredName
from tests.faults import receipts_check
from tests.faults.erasure_evidence import ErasureEvidence
from tests.kept_pictures import bytes_of


def judge(evidence: ErasureEvidence) -> Counter[str]:
    """Count what is wrong, by name; nothing is wrong if all counts are zero."""
    receipts = receipts_check.judge(evidence)
    wrong = _judge_left(evidence)
    for counts in (
        _judge_kept(evidence),
        {f"receipts_{name}": receipts[name] for name in receipts},
    ):
        wrong.update(counts)  # keeps zeros
    return wrong


def _judge_left(evidence: ErasureEvidence) -> Counter[str]:
    ended = {grant for account in evidence.accounts for grant in account.ended}
    erased = {upload for account in evidence.accounts for upload in account.requested}

    def is_gone(name: StoredName) -> bool:
        return name.grant in ended or name.upload_id in erased

    written = {each.picture for each in evidence.written}
    return Counter(
        strange=sum(
            (name.grant, name.upload_id, name.part) not in written for name in evidence.objects
        ),
        orphans=sum(map(is_gone, evidence.objects)),
        keys_from_the_dead=sum(evidence.keys[grant] for grant in ended),
        still_opened=sum(map(is_gone, evidence.opened)),
    )


def _judge_kept(evidence: ErasureEvidence) -> Counter[str]:
    kept = {
        (account.living, upload): size
        for account in evidence.accounts
        for upload, size in account.kept.items()
    }
    originals = [name for name in evidence.objects if name.part is Part.ORIGINAL]
    found = Counter((name.grant, name.upload_id) for name in originals)
    opened = {
        (name.grant, name.upload_id)
        for name, digest in evidence.opened.items()
        if (size := kept.get((name.grant, name.upload_id))) is not None
        and digest == sha256(bytes_of(name.upload_id, size)).digest()
    }
    return Counter(
        lost=len(kept.keys() - found.keys()),
        duplicated=sum(found[each] > 1 for each in kept),
        overwritten=sum(
            len(times) > 1
            for name, times in evidence.created.items()
            if (name.grant, name.upload_id) in kept
        ),
        unopened=len((kept.keys() & found.keys()) - opened),
    )

"""Judge the receipts of a storm of erasures by what owners did.  Pure.

==========  ===================================================================================
counted as  if
==========  ===================================================================================
lost        a decision, the end of a grant, the erasure of an upload, or an entry of the ledger
            has no leaf; or a leaf has no receipt
twice       the log has a receipt twice, or two erasures of a grant
unfounded   a leaf is about what no owner did, or names a decision that has no leaf
early       its times are out of order, or something was there after the last of them
refused     `receipt verify` refuses a receipt, or the auditor refused to cosign; or a receipt is
            about another account, or of another log, or has another leaf than the entry
==========  ===================================================================================
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from erasestream.pipeline.stages.receipts.leaves import Attested
from erasestream.schemas.errors import ProofRefused
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.receipts import (
    ConsentLeaf,
    ErasureLeaf,
    Leaf,
    UnrecoverableLeaf,
    UploadErasureLeaf,
    decode_leaf,
)
from erasestream.schemas.ids import UploadId
from erasestream.sinks.log.receipt import verify_receipt
from tests.faults.erasure_evidence import Account, ErasureEvidence


def judge(evidence: ErasureEvidence) -> Counter[str]:
    """Count what is wrong, by name."""
    return _ReceiptsCheck(evidence).judge()


def refusals(evidence: ErasureEvidence) -> Counter[str]:
    """Count the reasons for which receipts were refused, by the auditor and here."""
    return _ReceiptsCheck(evidence).refusals()


class _ReceiptsCheck:
    def __init__(self, evidence: ErasureEvidence) -> None:
        self._evidence = evidence
        self._leaves = list(map(decode_leaf, evidence.leaves))
        self._ids = Counter(leaf.id for leaf in self._leaves)
        self._erasures = Counter(
            leaf.grant for leaf in self._leaves if isinstance(leaf, ErasureLeaf)
        )
        self._attested = [each for some in evidence.attested.values() for each in some]
        self._uploads = dict(self._asked_uploads())
        self._stored = evidence.last_stored()
        self._decisions = {leaf.id for leaf, _ in self._attested}
        self._ended = {grant for account in evidence.accounts for grant in account.ended}
        self._erased = {upload for account in evidence.accounts for upload in account.requested}

    def judge(self) -> Counter[str]:
        return Counter(
            lost=sum(map(self._count_lost, self._evidence.accounts)) + self._count_unissued(),
            twice=sum(count > 1 for count in self._ids.values())
            + sum(count > 1 for count in self._erasures.values()),
            unfounded=sum(not self._is_founded(leaf) for leaf in self._leaves),
            early=sum(map(self._is_early, self._leaves)),
            refused=self.refusals().total(),
        )

    def refusals(self) -> Counter[str]:
        return self._evidence.refused + Counter(filter(None, map(self._refusal, self._attested)))

    def _asked_uploads(self) -> Iterator[tuple[str, UploadId]]:
        """Yield the upload of each receipt of one."""
        for leaf, subject in self._attested:
            if isinstance(leaf, UploadErasureLeaf) and subject is not None:
                upload = self._evidence.requests.get(subject.about)
                if upload is not None:
                    yield leaf.id, upload

    def _count_lost(self, account: Account) -> int:
        """Count what the owner did, and the log has not."""
        attested = self._evidence.attested.get(account.name, ())
        present = [leaf for leaf, _ in attested if leaf.id in self._ids]
        consent = [leaf for leaf in present if isinstance(leaf, ConsentLeaf)]
        granted = {*account.ended, *filter(None, [account.living])}
        revoked = sum(leaf.decision is Decision.REVOKED for leaf in consent)
        erased = {self._uploads.get(leaf.id) for leaf in present}
        return (
            sum(self._erasures[grant] == 0 for grant in account.ended)
            + len(account.requested - erased)
            + len(granted - {leaf.grant for leaf in consent})
            + max(0, len(account.ended) - revoked)
        )

    def _count_unissued(self) -> int:
        """Count the entries of the ledger without a leaf, or without a receipt."""
        receipts = self._evidence.receipts
        return sum(
            leaf.id not in self._ids or leaf.id not in receipts for leaf, _ in self._attested
        )

    def _is_founded(self, leaf: Leaf) -> bool:
        match leaf:
            case ErasureLeaf():
                return leaf.grant in self._ended and leaf.decision in self._ids
            case UnrecoverableLeaf():
                return leaf.grant in self._ended
            case UploadErasureLeaf():
                return self._uploads.get(leaf.id) in self._erased
            case ConsentLeaf():
                return leaf.id in self._decisions
            case _:
                return True  # keys of epochs and master keys belong to no account

    def _is_early(self, leaf: Leaf) -> bool:
        match leaf:
            case ErasureLeaf():
                times = [leaf.recorded, leaf.confirmed, leaf.unreachable]
                return times != sorted(times) or self._was_there_after(times[-1], leaf.grant)
            case UploadErasureLeaf():
                times, upload = [leaf.recorded, leaf.gone], self._uploads.get(leaf.id)
                return times != sorted(times) or self._was_there_after(times[-1], upload)
            case _:
                return False

    def _was_there_after(self, time: datetime, what: str | None) -> bool:
        """Return whether a listing that began later had it, or an object of it was created."""
        found = (self._evidence.last_seen.get(what or ""), self._stored.get(what or ""))
        return any(each is not None and each > time for each in found)

    def _refusal(self, attested: Attested) -> str | None:
        """Return why a receipt is refused; None if it holds, or is lost."""
        raw = self._evidence.receipts.get(attested.leaf.id)
        if raw is None:
            return None
        try:
            verified = verify_receipt(raw, self._evidence.log_key, self._evidence.auditor_key)
        except ProofRefused as error:
            return error.detail
        leaf, index = verified.leaf.encode(), verified.leaf_index
        if leaf != attested.leaf.encode():
            return f"a receipt has another {attested.leaf.kind} than the ledger"
        if (verified.extra.lane, verified.extra.account, verified.extra.about) != attested.subject:
            return "a receipt is about another account"
        if self._evidence.leaves[index : index + 1] != [leaf]:
            return "a receipt is of another log"
        return None

"""Issue receipts: of leaves that the auditor has cosigned, as files to verify offline."""

from erasestream.pipeline.stages.receipts.leaves import Attested
from erasestream.schemas.events.receipts import ReceiptExtra, Receipts
from erasestream.sinks.log.log_reader import LogReader, prove
from erasestream.sinks.log.receipt import verify_receipt
from erasestream.sinks.log.signed_note import PublicKey


class ReceiptIssuer:
    """Issues receipts from the newest checkpoint that was cosigned when it was created."""

    def __init__(
        self, *, reader: LogReader, log: PublicKey, cosigner: PublicKey, receipts: Receipts
    ) -> None:
        self._log = log
        self._cosigner = cosigner
        self._receipts = receipts
        self._newest = reader.newest(cosigner)
        self._ids = reader.ids(self._newest) if self._newest else None

    def issue(self, attested: Attested) -> bytes | None:
        """Return the receipt, which was verified; None if its leaf is not cosigned yet."""
        index = self._ids.find(attested.leaf.id) if self._ids else None
        if self._newest is None or index is None:
            return None
        (leaf,) = self._newest.tree.leaves(index, index + 1)
        extra = ReceiptExtra(leaf=leaf.decode())
        if attested.subject is not None:
            salt = self._receipts.salt(attested.leaf.id).hex()
            extra = extra.model_copy(update={**attested.subject._asdict(), "salt": salt})
        raw = prove(self._newest, index, log=self._log, extra=extra.encode()).format()
        verify_receipt(raw, self._log, self._cosigner)
        return raw

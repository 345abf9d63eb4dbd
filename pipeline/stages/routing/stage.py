"""The router as a stage: route results, and write findings between two transactions."""

from erasestream.pipeline.runtime.quarantine import QuarantinedPartition, QuarantineRegistry
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.kafka.transaction.loop import TransactionalLoop


class RouterStage:
    """Runs a started loop whose handler is the `Router`.

    `findings`: those of the consent view about decisions, and of the loop about partitions, which
    `quarantine` lists.
    """

    def __init__(
        self,
        *,
        loop: TransactionalLoop,
        findings: LedgerFindings,
        quarantine: QuarantineRegistry,
    ) -> None:
        self._loop = loop
        self._findings = findings
        self._quarantine = quarantine

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Route one small read, waiting up to `timeout_s` for it; then write one finding.

        A finding waits for the brokers, so none is written while a transaction is open.
        """
        self._loop.run_once(timeout_s)
        if not self._loop.is_open:
            self._findings.write_one()

    def is_ready(self) -> bool:
        """Return whether the group has assigned this member its partitions, perhaps none."""
        return self._loop.is_assigned

    def quarantined(self) -> list[QuarantinedPartition]:
        """Return the partitions whose results are not routed."""
        return self._quarantine.partitions()

    def close(self) -> None:
        """Commit what is decided and leave the group.

        The view and the originals' clients belong to whatever opened them: close those after this.
        """
        self._loop.close()

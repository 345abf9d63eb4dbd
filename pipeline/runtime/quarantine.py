"""The partitions that a stage does not read, for its health checks and metrics.

A stage that works for all other partitions is ready; its `/readyz` and `/metrics` name these.
Topics and numbers only: no account is named.
"""

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

from erasestream.topics.kafka.partition_broken import PartitionBroken
from erasestream.topics.kafka.records import Partition

log: logging.Logger = logging.getLogger(__name__)

GAUGE = "erasestream_quarantined_partitions"


class QuarantinedPartition(NamedTuple):
    """One partition that is not read, and the code of what is wrong with it."""

    topic: str
    partition: int
    code: str

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition} {self.code}"


class QuarantineRegistry:
    """The quarantined partitions of one stage.  Thread-safe.

    `report` is called for each that is added: it has the finding written to the ledger.
    """

    def __init__(self, report: Callable[[PartitionBroken], None] = lambda _: None) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._codes: dict[Partition, str] = {}

    def quarantined(self, broken: PartitionBroken) -> None:
        """Add a partition."""
        at = broken.at
        with self._lock:
            is_new = self._codes.get(at) != broken.defect
            self._codes[at] = broken.defect
        if is_new:
            fields = {"topic": at.topic, "partition": at.number, "offset": broken.offset}
            log.error(
                "quarantined", extra=fields | {"code": broken.defect, "reason": broken.detail}
            )
            self._report(broken)

    def released(self, at: Partition) -> None:
        """Remove a partition."""
        with self._lock:
            was_there = self._codes.pop(at, None) is not None
        if was_there:
            log.warning("released", extra={"topic": at.topic, "partition": at.number})

    def partitions(self) -> list[QuarantinedPartition]:
        """Return all of them, in order."""
        with self._lock:
            return [QuarantinedPartition(*at, code) for at, code in sorted(self._codes.items())]


def metrics_text(stage: str, partitions: list[QuarantinedPartition]) -> str:
    """Return the gauge in the text format of Prometheus."""
    lines = [
        f"# HELP {GAUGE} Partitions that the stage does not read because something is broken.",
        f"# TYPE {GAUGE} gauge",
        *(
            f'{GAUGE}{{stage="{stage}",topic="{topic}",partition="{number}",code="{code}"}} 1'
            for topic, number, code in partitions
        ),
    ]
    return "\n".join([*lines, ""])

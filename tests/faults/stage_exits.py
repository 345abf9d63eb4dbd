"""Exits of stages that the storm did not kill, and the routers' transaction counts, from logs.

A stage may end by itself in a storm for two reasons: a dependency was unavailable for longer
than the stage waits (69), or the stage was fenced (70), because another member replaced it or
the broker aborted its transaction.  Any other exit is a fault of ours: a signal that the storm
did not send, a broken invariant, a refused configuration, an unexpected exception.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from erasestream.pipeline.runtime.runner import EX_SOFTWARE, EX_UNAVAILABLE
from erasestream.schemas.errors import Code

EXPECTED = {
    (EX_UNAVAILABLE, Code.BROKER_UNAVAILABLE),
    (EX_UNAVAILABLE, Code.BUCKET_UNAVAILABLE),
    (EX_SOFTWARE, Code.FENCED),
}


class StageExit(NamedTuple):
    """A stage that ended by itself: exit status (negative: a signal) and reported code."""

    stage: str
    status: int | None
    code: str

    def __str__(self) -> str:
        return f"{self.stage} ended with {self.status}: {self.code or 'nothing reported'}"

    @property
    def is_expected(self) -> bool:
        """Whether a storm explains this exit."""
        return (self.status, self.code) in EXPECTED

    @classmethod
    def of(cls, stage: str, status: int | None, log: Path) -> "StageExit":
        """Read the exit from the last line of the stage's log."""
        ended = [line for line in _lines(log) if line["event"] in ("ended", "died")]
        return cls(stage, status, _code(ended[-1]) if ended else "")


def _code(line: dict[str, object]) -> str:
    return str(line.get("code") or line.get("error") or line.get("reason") or "")


class TransactionCounts(NamedTuple):
    """Transactions that the routers committed and aborted, as far as they could still log it.

    `quarantined`: partitions that they found broken, which no storm explains.
    """

    committed: int
    aborted: int
    quarantined: int = 0


def count_transactions(logs: Iterable[Path]) -> TransactionCounts:
    """Sum the counts over the routers' logs, one log per process."""
    committed = aborted = quarantined = 0
    for log in logs:
        quarantined += sum(line["event"] == "quarantined" for line in _lines(log))
        counts = [line for line in _lines(log) if "aborted" in line]
        if counts:
            committed += int(str(counts[-1]["committed"]))
            aborted += int(str(counts[-1]["aborted"]))
    return TransactionCounts(committed, aborted, quarantined)


def _lines(log: Path) -> Iterator[dict[str, object]]:
    for text in log.read_text(errors="replace").splitlines():
        if text.startswith("{") and text.endswith("}"):
            yield json.loads(text)

"""How stages ended that nobody killed, and what the routers said of their transactions.

A stage may end by itself in a storm for two reasons: what it needs was away for longer than it
waits (69), or it was fenced (70), since another took its place or a transaction was ended for
it.  Any other ending is a fault of ours: a signal that we did not send, an invariant that did
not hold, a set-up that was never wrong, an exception that nobody foresaw.
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
    """A stage that ended by itself: its exit status (minus a signal), and the code it gave."""

    stage: str
    status: int | None
    code: str

    def __str__(self) -> str:
        return f"{self.stage} ended with {self.status}: {self.code or 'said nothing'}"

    @property
    def is_expected(self) -> bool:
        """Whether a storm explains it."""
        return (self.status, self.code) in EXPECTED

    @classmethod
    def of(cls, stage: str, status: int | None, log: Path) -> "StageExit":
        """The ending as the last line of its log tells it."""
        ended = [line for line in _lines(log) if line["event"] in ("ended", "died")]
        return cls(stage, status, _code(ended[-1]) if ended else "")


def _code(line: dict[str, object]) -> str:
    return str(line.get("code") or line.get("error") or line.get("reason") or "")


class TransactionCounts(NamedTuple):
    """What routers committed and undid, as far as they could still say so."""

    committed: int
    aborted: int


def count_transactions(logs: Iterable[Path]) -> TransactionCounts:
    """The sums over the logs of routers, one log for each process."""
    committed = aborted = 0
    for log in logs:
        said = [line for line in _lines(log) if "aborted" in line]
        if said:
            committed += int(str(said[-1]["committed"]))
            aborted += int(str(said[-1]["aborted"]))
    return TransactionCounts(committed, aborted)


def _lines(log: Path) -> Iterator[dict[str, object]]:
    for text in log.read_text(errors="replace").splitlines():
        if text.startswith("{") and text.endswith("}"):
            yield json.loads(text)

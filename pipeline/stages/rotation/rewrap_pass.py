"""One look at all keys in the vault: move those that are not under the newest version."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from itertools import islice

from erasestream.schemas.errors import SealBroken, Unavailable
from erasestream.sinks.keys.key_rewrap import GrantKeys, Outcome, Rewrap

log: logging.Logger = logging.getLogger(__name__)

BATCH = 64
"""Grants of one turn, after which the stage looks whether it is to stop."""
UNREADABLE = "unreadable"


class RewrapPass:
    """The grants of one listing, in turns.

    A grant whose turn failed gets another; while it waits, the others get theirs.
    """

    def __init__(
        self,
        *,
        found: Iterator[GrantKeys],
        rewrap: Rewrap,
        pool: Executor,
        report: Callable[[Unavailable], None],
    ) -> None:
        self._found = found
        self._rewrap = rewrap
        self._pool = pool
        self._report = report
        self._again: list[GrantKeys] = []
        self.counts: Counter[str] = Counter()
        """Number of grants of each outcome, and of those with a key that does not unwrap."""
        self.needed: set[str] = set()
        """Versions under which a living grant had a key."""

    def run_once(self) -> bool:
        """Give up to 64 grants their turns; return whether there may be more.

        Raises `Unavailable` if the listing ends early: begin another pass.
        """
        batch = self._again[:BATCH]
        batch += islice(self._found, BATCH - len(batch))
        self._again = self._again[BATCH:]
        outcomes = list(self._pool.map(self._attempt, batch))
        self._again += [each for each, done in zip(batch, outcomes, strict=True) if done is None]
        self.counts.update(done for done in outcomes if done is not None)
        for each, done in zip(batch, outcomes, strict=True):
            if done != Outcome.ERASED:
                self.needed.update(each.versions)
        return bool(batch)

    def _attempt(self, found: GrantKeys) -> str | None:
        """Return the outcome of a grant's turn; None if it is to be repeated."""
        try:
            return self._rewrap(found)
        except Unavailable as error:
            self._report(error)
            return None
        except SealBroken:
            log.critical("key_unreadable", extra={"reason": f"grant {found.grant}"})
            return UNREADABLE

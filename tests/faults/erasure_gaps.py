"""Kills between two steps of an erasure, each counted if it is still there afterwards.

=====================  ========================================================================
killed after           and before
=====================  ========================================================================
deletion               the entry of it in `erasures.L`: an eraser
entry                  its leaf, in a signed tree: both writers of receipts
tree                   its checkpoint: both writers, once the batch that decides the tree is there
=====================  ========================================================================

An eraser waits for a minute between the deletion and its entry, and meets any kill there.  Writers
of receipts are watched, and killed as soon as there is a gap.
"""

import os
import random
import time
from collections import Counter
from urllib.parse import quote

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import BUCKET, VAULT_BUCKET
from erasestream.pipeline.stages.receipts.stage import LINGER_S
from erasestream.schemas.clocks import Deadline
from erasestream.sinks.buckets.access_policy import LOG
from erasestream.sinks.log.log_objects import CHECKPOINTS, SignedSize
from tests.faults.bucket_delays import VAULT_DELAY_S
from tests.faults.erasure_observer import ErasureObserver
from tests.faults.erasure_pictures import persist
from tests.faults.erasure_records import FollowedLedger, FollowedLog
from tests.faults.erasure_victims import WRITERS, Victims

DELETION, ENTRY, TREE = "deletion", "entry", "tree"
GAPS = (DELETION, ENTRY, TREE)
MAX_PAUSE_S = 20.0
"""Longest pause after a kill of both writers, in which the log grows."""


def file_name(name: str) -> str:
    """Return the name of the file of an object (`object_files.py`)."""
    return f"{quote(name, safe='')}="


class LogFiles:
    """The files of the log in the local bucket: a look costs no request."""

    def __init__(self, stack: Stack) -> None:
        self._folder = stack.files.directory / BUCKET / VAULT_BUCKET / "objects"

    def newest(self) -> SignedSize | None:
        """Return the name of the newest checkpoint."""
        prefix = quote(f"{LOG}{CHECKPOINTS}", safe="")
        with os.scandir(self._folder) as files:
            names = (file.name for file in files if file.name.startswith(prefix))
            newest = min(names, default=None)  # the order in a name falls as the log grows
        return SignedSize.parse(newest.removeprefix(prefix).removesuffix("=")) if newest else None

    def has_unsigned_tree(self, newest: SignedSize | None) -> bool:
        """Return whether there is a batch after the newest checkpoint."""
        return (self._folder / file_name(f"{LOG}batches/{newest.size if newest else 0}")).exists()


class Gaps:
    """Watches for gaps, kills in them, and counts the kills that met one."""

    def __init__(
        self,
        stack: Stack,
        victims: Victims,
        dice: random.Random,
        *,
        ledger: FollowedLedger,
        log: FollowedLog,
        observer: ErasureObserver,
        ambushes: int,
    ) -> None:
        self._files = LogFiles(stack)
        self._victims, self._dice = victims, dice
        self._ledger, self._log, self._observer = ledger, log, observer
        self._left = Counter({ENTRY: ambushes, TREE: ambushes})
        self._newest: SignedSize | None = None
        self._entry_due: Deadline | None = None
        """When to kill between an entry and its leaf, which waits for others for `LINGER_S`."""
        self._pause = Deadline(0, time.monotonic)
        self.met: Counter[str] = Counter(dict.fromkeys(GAPS, 0))
        """Kills that met each gap."""

    def turn(self) -> None:
        """Kill both writers if there is a gap."""
        is_idle = not self._left.total() or not self._pause.has_passed
        if is_idle or not self._victims.are_ready(*WRITERS):
            return
        self._ledger.read()
        found = self._open()
        if ENTRY not in found:
            self._entry_due = None
        elif self._entry_due is None:
            self._entry_due = Deadline(self._dice.uniform(0, LINGER_S), time.monotonic)
        if TREE in found and self._left[TREE]:
            self._strike(TREE)
        elif self._entry_due and self._entry_due.has_passed and self._left[ENTRY]:
            self._strike(ENTRY)

    def _strike(self, gap: str) -> None:
        self._victims.kill(*WRITERS)
        self._left[gap] -= 1
        self._entry_due = None
        self._pause = Deadline(self._dice.uniform(0, MAX_PAUSE_S), time.monotonic)
        time.sleep(2 * VAULT_DELAY_S)  # what they had sent may still arrive
        self.met.update(self._open())

    def killed_eraser(self) -> None:
        """Count the kill of an eraser if something is deleted and not entered yet."""
        deleted = persist(self._observer.deleted_grants)
        persist(self._ledger.read_to_end)
        self.met[DELETION] += bool(deleted - self._ledger.erased)

    def _open(self) -> list[str]:
        """Return the gaps that there are."""
        newest = self._files.newest()
        if newest != self._newest:
            persist(self._log.read)
            self._newest = newest
        found = [TREE] if self._files.has_unsigned_tree(newest) else []
        return found + [ENTRY] * bool(self._ledger.erasures - self._log.ids)

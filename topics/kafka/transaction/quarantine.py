"""Partitions of a member that are not read for now, and when each is tried again.

Rules, all of them:

1. A broken partition is reported once, and tried again after a pause that grows with the failures
   in a row, up to `MAX_PAUSE_S`: a repair may have been made.
2. It is released, and that is reported, once it has been read for `TRIAL_S` without failing.
3. A postponed partition is not reported: its leader does not answer, or its records have no room.
   Its first pause is shorter.
4. A new assignment forgets all of them: the partitions may be another member's.
"""

from dataclasses import dataclass

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken, QuarantineListener
from erasestream.topics.kafka.records import Partition

FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 60.0
TRIAL_S = 10.0
POSTPONED_S = 1.0


@dataclass
class _Case:
    """One partition.  `ends`: the pause, or the trial after it."""

    defect: Defect | None
    failures: int
    ends: Deadline
    is_on_trial: bool = False


class Quarantine:
    """The partitions that are not read, and those that are read on trial.  One thread."""

    def __init__(self, *, listener: QuarantineListener, clock: Clock) -> None:
        self._listener = listener
        self._clock = clock
        self._cases: dict[Partition, _Case] = {}

    def __contains__(self, at: Partition) -> bool:
        """Return whether a partition must not be read."""
        case = self._cases.get(at)
        return case is not None and not case.is_on_trial

    def add(self, broken: PartitionBroken) -> None:
        """Quarantine a partition; report it, unless that was done when it failed before."""
        before = self._cases.get(broken.at)
        known = before is not None and before.defect is not None
        failures = before.failures + 1 if before is not None and known else 1
        pause_s = _grown(FIRST_PAUSE_S, failures)
        self._cases[broken.at] = _Case(broken.defect, failures, Deadline(pause_s, self._clock))
        if not known:
            self._listener.quarantined(broken)

    def postpone(self, at: Partition) -> None:
        """Leave a partition unread for a moment."""
        before = self._cases.get(at)
        defect, failures = (before.defect, before.failures + 1) if before else (None, 1)
        pause_s = _grown(POSTPONED_S, failures)
        self._cases[at] = _Case(defect, failures, Deadline(pause_s, self._clock))

    def begin_trials(self) -> bool:
        """Begin to read what has waited long enough; return whether there is any."""
        self._end_trials()
        due = [
            case for case in self._cases.values() if not case.is_on_trial and case.ends.has_passed
        ]
        for case in due:
            case.is_on_trial, case.ends = True, Deadline(TRIAL_S, self._clock)
        return bool(due)

    def clear(self) -> None:
        """Forget all partitions."""
        for at in list(self._cases):
            self._release(at)

    def _end_trials(self) -> None:
        for at, case in list(self._cases.items()):
            if case.is_on_trial and case.ends.has_passed:
                self._release(at)

    def _release(self, at: Partition) -> None:
        if self._cases.pop(at).defect is not None:
            self._listener.released(at)


def _grown(first_s: float, failures: int) -> float:
    return min(MAX_PAUSE_S, first_s * 2.0 ** min(failures - 1, 10))

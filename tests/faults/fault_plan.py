"""What goes wrong, and in which order: drawn from a seed, so that a seed replays it.

Pure.  The order is the seed's alone; the moment of a fault of a broker also depends on the
brokers, since it waits until all copies are in sync.
"""

import random
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

BROKERS = 3
STAGES = ("infer", "infer-2", "route", "route-2", "sink", "purge", "erase")
"""What is killed and stopped: two workers, two routers, and the others."""


class FaultKind(StrEnum):
    """One kind of fault."""

    KILL_STAGE = "kill -9 of a stage"
    KILL_BROKER = "kill -9 of a broker"
    STOP_STAGE = "a stage stopped for 15 s"
    STOP_BROKER = "a broker stopped for 15 s"
    SLOW = "a connection slowed"
    CUT = "a connection cut"


WEIGHTS = {
    FaultKind.KILL_STAGE: 8,
    FaultKind.KILL_BROKER: 1,
    FaultKind.STOP_STAGE: 2,
    FaultKind.STOP_BROKER: 1,
    FaultKind.SLOW: 11,
    FaultKind.CUT: 13,
}
"""So that between two that cost seconds of recovery there is traffic for the next to hit.  A broker
that is stopped or started holds up whatever is written until the others have let it go: twice as
often (measured), one was away for three quarters of the time, and most faults hit nothing that
moved."""
OF_BROKERS = frozenset({FaultKind.KILL_BROKER, FaultKind.STOP_BROKER})


class Fault(NamedTuple):
    """A fault: the name of a stage, or the index of a broker (a proxy is a broker's)."""

    kind: FaultKind
    stage: str
    broker: int


def fault_sequence(seed: int) -> Iterator[Fault]:
    """Without end."""
    dice = random.Random(seed)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        (kind,) = dice.choices(kinds, weights)
        yield Fault(kind, dice.choice(STAGES), dice.randrange(BROKERS))

"""The faults of a storm and their order, drawn from a seed so that a storm can be replayed.

Pure.  The order depends on the seed alone; the moment of a broker fault also depends on the
brokers, because it waits until all replicas are in sync.
"""

import random
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

BROKERS = 3
KEY_REPLICAS = ("keys", "keys-2")
STAGES = ("infer", "infer-2", "route", "route-2", "sink", "purge", "erase", *KEY_REPLICAS)
"""The stages to kill and stop: two each of workers, routers and the key service, else one."""


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
"""Weighted so that there is traffic between two faults that take seconds to recover from.  A broker
that is stopped or started blocks every write until the others drop it from the in-sync replicas:
with twice as many (measured) one was down for three quarters of the time, and most faults hit an
idle pipeline."""
OF_BROKERS = frozenset({FaultKind.KILL_BROKER, FaultKind.STOP_BROKER})


class Fault(NamedTuple):
    """A fault: the name of a stage, or the index of a broker (a proxy is a broker's)."""

    kind: FaultKind
    stage: str
    broker: int


def fault_sequence(seed: int) -> Iterator[Fault]:
    """Yield an endless sequence of faults."""
    dice = random.Random(seed)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        (kind,) = dice.choices(kinds, weights)
        yield Fault(kind, dice.choice(STAGES), dice.randrange(BROKERS))

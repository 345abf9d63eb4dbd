"""Delay what is stored in the local bucket, so that uploads and steps of the log are under way.

A bucket that stores at once leaves nothing for a kill or a revocation to meet.
"""

import random
import time
from pathlib import Path

from erasestream.pipeline.devstack.gcs_emulator.faults import Fault, switch_faults
from erasestream.pipeline.devstack.stack_files import IMAGE_BUCKET, VAULT_BUCKET
from erasestream.schemas.clocks import Deadline

EVERY_S = 0.5
"""Time until other delays are drawn."""
DELAYS = 6
MAX_DELAY_S = 2.0
PICTURES = 2
"""Pictures with the same delay.  Of those that are sent at once, some are stored before others."""
VAULT_DELAY_S = 0.2
POST = frozenset({"POST"})


class BucketDelays:
    """Delays of a local bucket that change all the time."""

    def __init__(self, faults: Path, dice: random.Random) -> None:
        self._faults, self._dice = faults, dice
        self._next = Deadline(0, time.monotonic)

    def turn(self) -> None:
        """Draw other delays if it is time."""
        if self._next.has_passed:
            delays = [0.0, *(self._dice.uniform(0, MAX_DELAY_S) for _ in range(DELAYS))]
            images = [
                Fault(methods=POST, bucket=IMAGE_BUCKET, delay_s=each, times=PICTURES)
                for each in delays
            ]
            vault = Fault(methods=POST, bucket=VAULT_BUCKET, delay_s=VAULT_DELAY_S)
            switch_faults(self._faults, [*images, vault])
            self._next = Deadline(EVERY_S, time.monotonic)

    def end(self) -> None:
        """Delay nothing any more."""
        switch_faults(self._faults, [])

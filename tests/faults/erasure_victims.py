"""Two sinks, two erasers and two writers of receipts, which are killed and started again at once.

For the thread that starts them: a child ends with the thread that has started it.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from signal import SIGKILL
from typing import Self

from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.clocks import Deadline, utc_now
from tests.faults.stage_exits import StageExit

SINKS, ERASERS, WRITERS = ("sink", "sink-2"), ("erase", "erase-2"), ("attest", "attest-2")
PROCESSES = (*SINKS, *ERASERS, *WRITERS)


@dataclass(frozen=True, kw_only=True)
class ErasureSize:
    """Size of a storm."""

    accounts: int
    pictures: int
    """Pictures that are written at a time; each account writes them two or three times."""
    kills: Mapping[str, int]
    """By stage, kills of each of its two processes, at least, at random times."""
    longest_s: Mapping[str, float]
    """By stage, the longest life of a process: an erasure takes a minute."""
    ambushes: int
    """Kills of both writers of receipts in each gap, at most."""

    def part(self, accounts: int) -> Self:
        """Return the size of a trial."""
        part = accounts / self.accounts
        return replace(
            self,
            accounts=accounts,
            kills={stage: max(1, round(count * part)) for stage, count in self.kills.items()},
            longest_s={
                stage: max(10.0, most_s * part) if stage == "erase" else most_s
                for stage, most_s in self.longest_s.items()
            },
            ambushes=max(1, round(self.ambushes * part)),
        )


class Victims:
    """Kills each process some time after it was ready.

    `after` is called after each such kill, with the process and a moment at which it still lived.
    """

    def __init__(
        self,
        stack: Stack,
        size: ErasureSize,
        dice: random.Random,
        *,
        after: Callable[[str, datetime], None],
    ) -> None:
        self._stack, self._size, self._dice = stack, size, dice
        self._after = after
        self._due: dict[str, Deadline] = {}
        self._timed = Counter[str]()
        self.kills = Counter[str]()
        self.exits: list[StageExit] = []
        """Processes that ended without being killed."""
        self.are_spared = False

    def turn(self) -> None:
        """Start those that have ended, and kill those whose time has come."""
        for name in PROCESSES:
            if self._stack.stage(name).process_id is None:
                self._start(name)
            elif name in self._due:
                if self._due[name].has_passed and not self.are_spared:
                    alive = utc_now()
                    self.kill(name)
                    self._timed[name] += 1
                    self._after(name, alive)
            elif '"ready"' in self._stack.log_of(name).read_text():
                life_s = self._dice.uniform(0, self._size.longest_s[stage_of(name)])
                self._due[name] = Deadline(life_s, time.monotonic)

    def kill(self, *names: str) -> None:
        """Kill processes, as a power cut would."""
        for name in names:
            self._due.pop(name, None)
            self.kills[name] += 1
            self._stack.stage(name).kill()

    def are_ready(self, *names: str) -> bool:
        """Return whether these run and have logged that they are ready."""
        return all(name in self._due for name in names)

    def have_been_killed(self) -> bool:
        """Return whether each was killed often enough."""
        kills = self._size.kills
        return all(self._timed[name] >= kills[stage_of(name)] for name in PROCESSES)

    def count_of(self, stage: str) -> int:
        """Return how often the processes of a stage were killed."""
        return sum(count for name, count in self.kills.items() if stage_of(name) == stage)

    def _start(self, name: str) -> None:
        status = self._stack.stage(name).exit_code
        if status is not None and status != -SIGKILL:
            self.exits.append(StageExit.of(name, status, self._stack.log_of(name)))
        self._due.pop(name, None)
        self._stack.start_stage(
            stage_of(name), name=name, ERASESTREAM_STAGE__INSTANCE=instance_of(name)
        )


def stage_of(name: str) -> str:
    """Return the stage of a process."""
    return name.partition("-")[0]


def instance_of(name: str) -> str:
    """Return the instance of a process in its stage."""
    return name.partition("-")[2] or "1"

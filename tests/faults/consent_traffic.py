"""Consent decisions during a storm.

Some accounts never opt in, some are opted in throughout, some opt in once during the storm, and
some change their mind all the time: through one writer, or through two at once.
"""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TypeVar

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.events.consent import Decision
from tests.faults.binding_windows import Account
from tests.faults.decision_recorder import DecisionRecorder

ALWAYS = ("always-1", "always-2")
NEVER = ("never-1", "never-2")
ONCE = ("once-1", "once-2")
FLIPPING = tuple(f"flips-{number}" for number in range(1, 41))
CONFIRMING = ("confirms-1", "confirms-2", "confirms-3")
"""These change their mind too, and wait for the confirmation of each revocation."""
SHARED = ("shared-1", "shared-2", "shared-3")
"""Two writers decide for these at once; then one decides alone, and that decision lasts a while."""
ACCOUNTS = 2 * (ALWAYS + NEVER + ONCE) + FLIPPING + 4 * CONFIRMING + 8 * SHARED
"""The accounts to draw from; shared ones are the most frequent, having the most to check."""

FLIPS_PER_S = 40.0
"""Upper bound over all flipping accounts, reached only while every broker is up."""
CONFIRM_S = 60.0
RETRY_S = 0.5
IN_FORCE_S = 4.0
"""How long the decisions of confirming accounts last: more than the skew, so uploads fall in it."""
RACES = 2
SHARED_IN_FORCE_S = (IN_FORCE_S, IN_FORCE_S, 120.0)
"""The longest lasts until most uploads made meanwhile have their result."""
DECISIONS = (Decision.GRANTED, Decision.REVOKED)

T = TypeVar("T")


class ConsentTraffic:
    """Threads that decide for accounts until they are stopped."""

    def __init__(self, recorder: DecisionRecorder, *, threads: int) -> None:
        """Use the second writer for shared accounts only; `threads` threads flip."""
        self._recorder = recorder
        self._closing = threading.Event()
        lanes = recorder.lanes
        flipping = list(itertools.product(lanes, FLIPPING))
        threads = min(threads, len(flipping))
        self._pause_s = threads / FLIPS_PER_S
        self._threads = [
            *(_thread(self._flip, flipping[n::threads]) for n in range(threads)),
            *(_thread(self._confirm, each) for each in itertools.product(lanes, CONFIRMING)),
            *(_thread(self._share, each) for each in itertools.product(lanes, SHARED)),
        ]

    def grant(self, accounts: tuple[str, ...]) -> None:
        """Opt these accounts in, in every lane; retry until it is recorded."""
        for account in itertools.product(self._recorder.lanes, accounts):
            self._decide_until_recorded(account, 0, Decision.GRANTED)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop deciding, and wait for open calls."""
        self._closing.set()
        for thread in self._threads:
            thread.join(CONFIRM_S)

    def _flip(self, accounts: list[Account]) -> None:
        dice = Random(f"{accounts}")
        next_of = dict.fromkeys(accounts, Decision.GRANTED)
        while not self._closing.is_set():
            pause = Deadline(self._pause_s, time.monotonic)
            account = dice.choice(accounts)
            if self._recorder.decide(account, 0, next_of[account]):
                next_of[account] = _opposite(next_of[account])
            self._closing.wait(pause.remaining_s)

    def _confirm(self, account: Account) -> None:
        for decision in itertools.cycle(DECISIONS):
            self._decide_until_recorded(account, 0, decision)
            if self._closing.wait(IN_FORCE_S):
                return

    def _share(self, account: Account) -> None:
        dice = Random(f"{account}")
        with ThreadPoolExecutor(2) as both:
            while not self._closing.is_set():
                for _ in range(RACES):
                    opposite = dice.sample(DECISIONS, 2)
                    list(both.map(self._recorder.decide, (account, account), (0, 1), opposite))
                self._decide_until_recorded(account, dice.randrange(2), dice.choice(DECISIONS))
                self._closing.wait(dice.choice(SHARED_IN_FORCE_S))

    def _decide_until_recorded(self, account: Account, writer: int, decision: Decision) -> None:
        """Retry until it is recorded; wait a limited time for a revocation's confirmation."""
        while not self._recorder.decide(account, writer, decision, confirm_s=CONFIRM_S):
            if self._closing.wait(RETRY_S):
                return


def _thread(work: Callable[[T], None], argument: T) -> threading.Thread:
    return threading.Thread(target=work, args=(argument,), daemon=True)


def _opposite(decision: Decision) -> Decision:
    return Decision.REVOKED if decision is Decision.GRANTED else Decision.GRANTED

"""Owners who decide while everything breaks; every call of theirs is noted.

Accounts that never opt in, that always have, that do so once in the midst, and that change
their mind all the time: by one writer, or by two at once.
"""

import contextlib
import itertools
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TypeVar

from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.ids import Lane
from erasestream.topics.consent.writer import ConsentWriter
from tests.faults import binding_windows
from tests.faults.binding_windows import Account, WriterCall

ALWAYS = ("always-1", "always-2")
NEVER = ("never-1", "never-2")
ONCE = ("once-1", "once-2")
FLIPPING = tuple(f"flips-{number}" for number in range(1, 41))
CONFIRMING = ("confirms-1", "confirms-2", "confirms-3")
"""These change their mind as well, and wait until a revocation is confirmed."""
SHARED = ("shared-1", "shared-2", "shared-3")
"""Two writers decide for these at once; then one of them alone, and that stands for a while."""
ACCOUNTS = 2 * (ALWAYS + NEVER + ONCE) + FLIPPING + 4 * CONFIRMING + 8 * SHARED
"""Drawn from evenly; the shared ones most often, as there is most to be judged."""

FLIPS_PER_S = 40.0
"""Of all flipping accounts at most, which they reach only while all brokers are there."""
CONFIRM_S = 60.0
AGAIN_S = 0.5
STANDS_S = 4.0
"""How long a decision of those who wait stands: more than the skew, so that uploads fall in it."""
RACES = 2
SHARED_STANDS_S = (STANDS_S, STANDS_S, 120.0)
"""The longest: until most of what was uploaded meanwhile has its result."""
MADE = (Decision.GRANTED, Decision.REVOKED)

T = TypeVar("T")
Writers = tuple[ConsentWriter, ConsentWriter]


class ConsentTraffic:
    """Decide for accounts, several at a time."""

    def __init__(self, writers: Mapping[Lane, Writers], *, threads: int) -> None:
        """Two writers of each lane, the second for shared accounts only; `threads` flip."""
        self.calls: dict[Account, list[WriterCall]] = defaultdict(list)
        """Of each account, in the order in which they began."""
        self._writers = writers
        self._actors = (f"owner-{number}" for number in itertools.count())
        self._lock = threading.Lock()
        self._closing = threading.Event()
        flipping = list(itertools.product(writers, FLIPPING))
        threads = min(threads, len(flipping))
        self._pause_s = threads / FLIPS_PER_S
        self._threads = [
            *(_thread(self._flip, flipping[n::threads]) for n in range(threads)),
            *(_thread(self._confirm, each) for each in itertools.product(writers, CONFIRMING)),
            *(_thread(self._share, each) for each in itertools.product(writers, SHARED)),
        ]

    @property
    def count(self) -> int:
        """How many decisions were recorded."""
        return sum(call.decision_id is not None for call in self._all())

    @property
    def confirmed(self) -> int:
        """How many revocations were confirmed."""
        return sum(call.confirmed_ms < binding_windows.NEVER for call in self._all())

    def _all(self) -> list[WriterCall]:
        with self._lock:
            return list(itertools.chain.from_iterable(self.calls.values()))

    def grant(self, accounts: tuple[str, ...]) -> None:
        """Opt these in, in every lane; again until it is recorded."""
        for account in itertools.product(self._writers, accounts):
            self._settle(account, 0, Decision.GRANTED)

    def start(self) -> None:
        """Let owners change their minds."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more of that."""
        self._closing.set()
        for thread in self._threads:
            thread.join(CONFIRM_S)

    def _flip(self, mine: list[Account]) -> None:
        dice = Random(f"{mine}")
        next_of = dict.fromkeys(mine, Decision.GRANTED)
        while not self._closing.is_set():
            next_s = time.monotonic() + self._pause_s
            account = dice.choice(mine)
            if self._decide(account, 0, next_of[account]):
                next_of[account] = _other(next_of[account])
            self._closing.wait(next_s - time.monotonic())

    def _confirm(self, account: Account) -> None:
        for made in itertools.cycle(MADE):
            self._settle(account, 0, made)
            if self._closing.wait(STANDS_S):
                return

    def _share(self, account: Account) -> None:
        dice = Random(f"{account}")
        with ThreadPoolExecutor(2) as both:
            while not self._closing.is_set():
                for _ in range(RACES):
                    opposite = dice.sample(MADE, 2)
                    list(both.map(self._decide, (account, account), (0, 1), opposite))
                self._settle(account, dice.randrange(2), dice.choice(MADE))
                self._closing.wait(dice.choice(SHARED_STANDS_S))

    def _settle(self, account: Account, writer: int, made: Decision) -> None:
        """Until it is recorded, and a revocation confirmed if that comes in time."""
        while not self._decide(account, writer, made, await_s=CONFIRM_S):
            if self._closing.wait(AGAIN_S):
                return

    def _decide(self, account: Account, writer: int, made: Decision, await_s: float = 0.0) -> bool:
        """Whether it was recorded; if not, it may have been written or not."""
        lane, name = account
        given = self._writers[Lane(lane)][writer]
        decide = given.grant if made is Decision.GRANTED else given.revoke
        begun_ms = math.floor(time.time() * 1000)
        with self._lock:
            call = WriterCall(next(self._actors), writer, made is Decision.GRANTED, begun_ms)
            calls = self.calls[account]
            at = len(calls)
            calls.append(call)
        try:
            recorded = decide(name, actor=call.actor, channel=Channel.LIBRARY)
        except ErasestreamError:
            calls[at] = call._replace(answered_ms=_now_ms(), is_given_up=True)
            return False
        call = call._replace(answered_ms=_now_ms(), decision_id=recorded.decision_id)
        calls[at] = call
        if made is Decision.REVOKED and await_s:
            with contextlib.suppress(ErasestreamError):
                given.await_confirmed(name, recorded, timeout_s=await_s)
                calls[at] = call._replace(confirmed_ms=_now_ms())
        return True


def _thread(work: Callable[[T], None], about: T) -> threading.Thread:
    return threading.Thread(target=work, args=(about,), daemon=True)


def _other(made: Decision) -> Decision:
    return Decision.REVOKED if made is Decision.GRANTED else Decision.GRANTED


def _now_ms() -> int:
    """The first millisecond that is surely not before now."""
    return math.ceil(time.time() * 1000)

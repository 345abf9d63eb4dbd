"""Passes of many erasures by a few threads, in turn for each lane and each account."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from erasestream.pipeline.runtime.retry import RETRY_S, OutageLog
from erasestream.pipeline.stages.erasure.grant_entries import Owned
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable


class Work(Protocol):
    """An erasure in passes."""

    running: Future[Any] | None
    wire: Wire | None
    """The entry to write, once nothing is left to do."""
    next: Deadline
    passes: int


W = TypeVar("W", bound=Work)


def in_turn(works: Collection[W], owner_of: Callable[[W], Owned], most: int) -> Iterator[W]:
    """Yield those to begin, at most so many that `most` run at once.

    Lanes take turns, and the accounts of a lane: an account with few passes goes before one with
    many, whatever it has left to delete.  Of an account, the work with the fewest passes is first.
    """
    running, passes = Counter[object](), Counter[object]()
    ready = []
    for work in works:
        owner = owner_of(work)
        lane, account = owner.lane, (owner.lane, owner.account)
        passes[account] += work.passes
        if work.running:
            running.update((lane, account))
        elif work.wire is None and work.next.has_passed:
            ready.append((work, lane, account))

    def turn(at: int) -> tuple[int, int, int, int]:
        work, lane, account = ready[at]
        return running[lane], running[account], passes[account], work.passes

    free = most - sum(work.running is not None for work in works)
    for _ in range(min(free, len(ready))):
        work, lane, account = ready.pop(min(range(len(ready)), key=turn))
        running.update((lane, account))
        yield work


def take_result(work: Work, outage: OutageLog, clock: Clock) -> None:
    """Take the result of a pass that has ended; begin the next one later if it was `Unavailable`.

    Raises any other error of the pass.
    """
    if work.running is None or not work.running.done():
        return
    running, work.running = work.running, None
    try:
        running.result()
    except Unavailable as error:
        outage.report(error)
        work.next = Deadline(RETRY_S, clock)

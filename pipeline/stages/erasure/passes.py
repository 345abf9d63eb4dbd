"""Passes of many erasures by a few threads, in turn for each lane."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from erasestream.pipeline.runtime.retry import RETRY_S, OutageLog
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane


class Work(Protocol):
    """An erasure in passes."""

    running: Future[Any] | None
    wire: Wire | None
    """The entry to write, once nothing is left to do."""
    next: Deadline
    passes: int


W = TypeVar("W", bound=Work)


def in_turn(works: Collection[W], lane_of: Callable[[W], Lane], most: int) -> Iterator[W]:
    """Yield those to begin: of each lane in turn, and of its own those with the fewest passes.

    At most `most` run at once.
    """
    begun = Counter(lane_of(work) for work in works if work.running)
    ready = [w for w in works if w.running is None and w.wire is None and w.next.has_passed]
    ready.sort(key=lambda work: work.passes)
    for _ in range(min(most - begun.total(), len(ready))):
        work = min(ready, key=lambda work: begun[lane_of(work)])
        ready.remove(work)
        begun[lane_of(work)] += 1
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

"""Tell a first appearance from a replay, by the source of the last routed result.

Inference runs at least once: after a crash it repeats results, in order and without a gap.
Per partition the mark holds the source of the last result that was routed.  Pure.

Rules, all of them:

* At or below the mark: a replay; dropped.
* The mark plus one: new; routed, and the mark advances.
* Beyond: a gap.  Every missing offset must be below the log start of the uploads (purged
  unprocessed, counted) or below `unread_below` of the mark (see the next rule; counted as
  unrouted).  Any other gap is `ResultsMissing`: the partition is broken.
* Cut-outs that were deleted before a router had read them are a loss.  They were appended
  before the first cut-out that is left, so only results of uploads older than that one can be
  missing: `unread_below` is the first upload that is surely younger.  Zombies may leave more
  than one gap below it; above it a gap is a gap.  The mark carries `unread_below` until it has
  passed it, so that no crash and no abort loses it.
* Another topic id is accepted only if it is the one that the broker has now: the uploads were
  recreated, and the mark restarts.  Any other topic id is an
  invariant that does not hold.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events.base import Position


class ResultsMissing(InvariantBroken):
    """Results are missing before this one, and their uploads still exist."""


class Novelty(Enum):
    """Whether a result was routed before."""

    REPLAY = auto()
    NEW = auto()


class Classification(NamedTuple):
    """The novelty of a result, the mark after it, and the number of uploads missing before it."""

    novelty: Novelty
    mark: ReplayMark
    purged: int = 0
    """Uploads that were deleted before they had a result."""
    unrouted: int = 0
    """Results, or uploads, that were deleted while no router read them."""


def classify(
    mark: ReplayMark,
    position: Position,
    *,
    current_topic_id: Callable[[], str],
    log_start: Callable[[], int],
) -> Classification:
    """Classify one result.  The brokers are asked only where their answer matters."""
    if position.topic_id != mark.topic_id:
        if position.topic_id != current_topic_id():
            raise InvariantBroken(f"{position} is of a topic that the broker does not have")
        mark = ReplayMark(topic_id=position.topic_id, offset=-1)
    if position.offset <= mark.offset:
        return Classification(Novelty.REPLAY, mark)
    missing = position.offset - mark.offset - 1
    advanced = mark.at(position.offset)
    if missing and position.offset <= mark.unread_below:
        return Classification(Novelty.NEW, advanced, unrouted=missing)
    if missing and position.offset > log_start():
        raise ResultsMissing(f"{missing} results are missing before {position}")
    return Classification(Novelty.NEW, advanced, purged=missing)


def mark_after_loss(mark: ReplayMark, *, current_topic_id: str, first_younger: int) -> ReplayMark:
    """Return the mark of a partition whose unread cut-outs were deleted.

    `first_younger`: the first upload, of the current topic, that was surely appended after every
    deleted cut-out.  If the uploads were recreated since the mark, the mark restarts.
    """
    if mark.topic_id != current_topic_id:
        return ReplayMark(topic_id=current_topic_id, offset=-1, unread_below=first_younger)
    return mark._replace(unread_below=max(first_younger, mark.unread_below))

"""Tell a first appearance from a replay, by the source of what was routed last.

Inference runs at least once: after a crash it repeats results, in order and without a gap.
Per partition the mark holds the source of the last result that was routed.  Pure.

Rules, all of them:

* At or below the mark: a replay; dropped.
* The mark plus one: new; routed, and the mark moves.
* Beyond: a gap.  Every offset that is missing must lie below the log start of the uploads
  (purged unprocessed, counted), or below `unread_below` of the mark (see there, counted as
  unrouted); any other gap stops the process.
* Cut-outs that were deleted before a router had read them leave a loss.  What was deleted was
  appended before the first one that is left, so only results of uploads that are older than
  that one can be missing: `unread_below` is the first upload that is surely younger.  Zombies
  may leave more than one gap below it, above it a gap is a gap.  The mark carries it until it
  has got there, so that no crash and no abort forgets it.
* Another topic id counts only if it is the one that the broker has now: the uploads were
  made anew, and the mark starts again.  Any other stops the process.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events.base import Position


class Novelty(Enum):
    """What a result is."""

    REPLAY = auto()
    NEW = auto()


class Judgement(NamedTuple):
    """What a result is, the mark after it, and what is missing before it."""

    appearance: Novelty
    mark: ReplayMark
    purged: int = 0
    """Uploads that were deleted before they had a result."""
    unrouted: int = 0
    """Results, or uploads, that were deleted while no router read them."""


def judge(
    mark: ReplayMark,
    position: Position,
    *,
    current_topic_id: Callable[[], str],
    log_start: Callable[[], int],
) -> Judgement:
    """Judge one result.  The two questions are only asked when the answer matters."""
    if position.topic_id != mark.topic_id:
        if position.topic_id != current_topic_id():
            raise InvariantBroken(f"{position} is of a topic that the broker does not have")
        mark = ReplayMark(topic_id=position.topic_id, offset=-1)
    if position.offset <= mark.offset:
        return Judgement(Novelty.REPLAY, mark)
    missing = position.offset - mark.offset - 1
    moved = mark.at(position.offset)
    if missing and position.offset <= mark.unread_below:
        return Judgement(Novelty.NEW, moved, unrouted=missing)
    if missing and position.offset > log_start():
        raise InvariantBroken(f"{missing} results are missing before {position}")
    return Judgement(Novelty.NEW, moved, purged=missing)


def after_loss(mark: ReplayMark, *, current_topic_id: str, younger: int) -> ReplayMark:
    """The mark where unread cut-outs were deleted.

    `younger`: the first upload, of the topic that is there now, that was surely appended after
    all that was deleted.  If uploads were made anew since the mark, it starts again.
    """
    offset = mark.offset if mark.topic_id == current_topic_id else -1
    below = max(younger, mark.unread_below) if mark.topic_id == current_topic_id else younger
    return ReplayMark(topic_id=current_topic_id, offset=offset, unread_below=below)

"""Tell a first appearance from a replay, by the source of what was routed last.

Inference runs at least once: after a crash it repeats results, in order and without a gap.
Per partition the mark holds the source of the last result that was routed.  Pure.

Rules, all of them:

* At or below the mark: a replay; dropped.
* The mark plus one: new; routed, and the mark moves.
* Beyond: a gap.  Every offset that is missing must lie below the log start of the uploads
  (purged unprocessed, counted); any other gap stops the process.
* Another topic id counts only if it is the one that the broker has now: the uploads were
  made anew, and the mark starts again.  Any other stops the process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events import Position
from erasestream.topics.replay_mark import ReplayMark


class Appearance(Enum):
    """What a result is."""

    REPLAY = auto()
    NEW = auto()


@dataclass(frozen=True)
class Judgement:
    """What a result is, the mark after it, and how many uploads were purged before it."""

    appearance: Appearance
    mark: ReplayMark
    purged: int = 0


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
        return Judgement(Appearance.REPLAY, mark)
    missing = position.offset - mark.offset - 1
    if missing and position.offset > log_start():
        raise InvariantBroken(f"{missing} results are missing before {position}")
    moved = ReplayMark(topic_id=mark.topic_id, offset=position.offset)
    return Judgement(Appearance.NEW, moved, missing)

"""Turns of erasures: neither a lane nor an account holds up others."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from erasestream.pipeline.stages.erasure.passes import in_turn
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.ids import AccountId, Lane
from tests.pipeline.stages.erasure.eraser_harness import ManualClock

CLOCK = ManualClock()
MOST = 4
SHOP, BULK = Lane("shop"), Lane("bulk")


@dataclass(eq=False)
class Work:
    """An erasure of an account; `left` passes end it."""

    account: AccountId
    left: int
    lane: Lane = SHOP
    running: Future[None] | None = None
    passes: int = 0
    wire: Wire | None = None
    next: Deadline = field(default_factory=lambda: Deadline(0, CLOCK))


def turns_until_done(works: Sequence[Work], account: str) -> int:
    """Do one pass of each work that begins, turn by turn, until this account has nothing left."""
    turns = 0
    while any(work.left for work in works if work.account == account):
        turns += 1
        for work in in_turn([each for each in works if each.left], lambda each: each, MOST):
            work.passes += 1
            work.left -= 1
    return turns


def works_of(account: str, count: int, left: int) -> list[Work]:
    return [Work(AccountId(account), left) for _ in range(count)]


def test_an_account_with_many_grants_holds_up_none_of_its_lane() -> None:
    """Not even one whose own grants need some passes, and came last."""
    works = [*works_of("large", 1_000, 1_000), *works_of("small", 3, 5), *works_of("one", 1, 1)]
    assert turns_until_done(works, "one") == 1
    assert turns_until_done(works, "small") <= 8


def test_what_an_account_has_had_counts_for_its_next_grant() -> None:
    """So that one which opts in and out again and again gains nothing."""
    first, *later = works_of("large", 5, 10)
    first.passes = 100
    works = [*later, first, *works_of("small", 1, 10), *works_of("other", 1, 10)]
    begun = list(in_turn(works, lambda each: each, 2))
    assert [each.account for each in begun] == ["small", "other"]


def test_lanes_take_turns_before_accounts_do() -> None:
    works = [*works_of("a", 1, 1), *works_of("b", 1, 1), *works_of("c", 1, 1)]
    alone = Work(AccountId("d"), 1, BULK, passes=9)
    begun = list(in_turn([*works, alone], lambda each: each, 2))
    assert alone in begun


def test_what_runs_or_waits_is_not_begun() -> None:
    running, written, later = works_of("a", 3, 1)
    running.running = Future()
    written.wire = Wire([], b"")
    later.next = Deadline(1, CLOCK)
    others = works_of("a", 5, 1)
    begun = list(in_turn([running, written, later, *others], lambda each: each, MOST))
    assert begun == others[: MOST - 1]

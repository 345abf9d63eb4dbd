"""The whole join under everything that can happen, in any order.

A state machine (`join_machine.py`) runs the real router, replay rule, barrier, rule of
keeping, view state and purge rule over brokers in memory.  And the machine is shown to
notice: with each rule broken in turn it fails.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

from erasestream.pipeline.stages.routing import deduplication, routing_rule
from erasestream.pipeline.stages.routing.deduplication import Judgement, Novelty
from erasestream.pipeline.stages.routing.freshness_barrier import FreshnessBarrier, Verdict
from erasestream.pipeline.stages.routing.router import Router
from erasestream.schemas.codec.consent_decision import ParsedDecision
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events.base import Position
from erasestream.topics.admin.record_purge import Committed
from erasestream.topics.kafka.records import Partition
from tests.pipeline.stages.routing import join_machine
from tests.pipeline.stages.routing.join_harness import ACCOUNTS
from tests.pipeline.stages.routing.join_machine import NAMES, Join
from tests.pipeline.stages.routing.join_members import Worker

EXAMPLES = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_join_holds_whatever_happens() -> None:
    """Every invariant, over random histories of everything that is known to happen."""
    run_state_machine_as_test(Join, settings=EXAMPLES)  # type: ignore[no-untyped-call]


def every_result_is_new(
    mark: ReplayMark, position: Position, **_: Callable[[], object]
) -> Judgement:
    """A replay rule that forgets."""
    return Judgement(Novelty.NEW, ReplayMark(topic_id=position.topic_id, offset=position.offset))


def gaps_do_not_matter(
    mark: ReplayMark, position: Position, *, current_topic_id: Any, log_start: Any
) -> Judgement:
    """A replay rule that passes over a gap in silence."""
    found = REAL_JUDGE(
        mark, position, current_topic_id=current_topic_id, log_start=lambda: position.offset
    )
    return Judgement(found.appearance, found.mark)


def too_much(*, routed: dict[Partition, Committed], **others: Any) -> dict[Partition, int]:
    """A purge rule that is one ahead of what is committed."""
    found = REAL_NEEDLESS(routed=routed, **others)
    return {at: offset + (at.topic.startswith("uploads")) for at, offset in found.items()}


REAL_JUDGE = deduplication.judge
REAL_AFTER_LOSS = deduplication.after_loss
REAL_NEEDLESS = join_machine.purgeable_offsets

BROKEN: dict[str, tuple[object, str, object]] = {
    "replays are routed": (deduplication, "judge", every_result_is_new),
    "gaps are not told": (deduplication, "judge", gaps_do_not_matter),
    "view is never behind": (FreshnessBarrier, "judge", lambda *_, **__: Verdict.DECIDE),
    "clocks are believed": (routing_rule, "MAX_CLOCK_SKEW", timedelta(0)),
    "any photo will do": (routing_rule, "is_original", lambda *_: True),
    "late grants count": (ParsedDecision, "is_void", lambda *_: False),
    "purged up to what was read": (join_machine, "purgeable_offsets", too_much),
    "everybody is opted out": (Router, "_retained", lambda *_: ()),
    "a loss is not told": (deduplication, "after_loss", lambda mark, **_: mark),
    "a loss is of what is left only": (
        deduplication,
        "after_loss",
        lambda mark, *, younger, **_: REAL_AFTER_LOSS(
            mark, current_topic_id=mark.topic_id, younger=younger // 2
        ),
    ),
    "mark is not committed": (
        Router,
        "offset_metadata",
        lambda _, __: str(ReplayMark(topic_id="topic-" + "0" * 16, offset=-1)),
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine finds a history in which it does harm."""
    owner, name, replacement = BROKEN[broken]
    monkeypatch.setattr(owner, name, replacement)
    search = settings(
        EXAMPLES,
        max_examples=2000,
        phases=[Phase.generate],
        derandomize=True,
        report_multiple_bugs=False,
        database=None,
        verbosity=Verbosity.quiet,
    )
    with pytest.raises((AssertionError, InvariantBroken)):
        run_state_machine_as_test(Join, settings=search)  # type: ignore[no-untyped-call]


def test_a_result_that_is_missing_stops_the_router() -> None:
    """A gap whose uploads are still there is never passed over."""
    machine = Join()
    machine.brokers.upload(ACCOUNTS[0], 0)
    machine.brokers.upload(ACCOUNTS[0], 0)
    skipping = Worker(machine.brokers, 0, 1)
    skipping.read(1)
    skipping.append()
    router = machine.current[NAMES[0]]
    router.read(1)
    with pytest.raises(InvariantBroken, match="missing"):
        router.handle()
    assert machine.brokers.ephemeral == []


def test_a_loss_is_remembered_until_the_gap_it_left() -> None:
    """What is left begins with a replay: the router commits that and is killed before the gap."""
    machine = Join()
    for _ in range(4):
        machine.brokers.upload(ACCOUNTS[0], 0)
    worker, zombie = (Worker(machine.brokers, 0, start) for start in (0, 1))
    worker.read(4)
    zombie.read(1)
    for each in (worker, worker):
        each.append()
    machine.router_works(NAMES[0], 2)
    for each in (worker, zombie, worker):
        each.append()
    machine.cutouts_outlive_their_time(0, 3)
    for _ in ("a replay", "what comes after the gap"):
        machine.router_is_killed(NAMES[0])
        machine.router_works(NAMES[0], 1)
    assert [place.offset for place in machine.brokers.ephemeral] == [0, 1, 3]
    assert [place.offset for place in machine.brokers.purged] == [2]

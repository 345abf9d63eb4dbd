"""The whole join under everything that can happen, in any order.

A state machine (`join_machine.py`) runs the real router, deduplication rule, freshness barrier,
retention rule, state of the consent view and purge rule over brokers in memory.  With each rule
broken in turn the machine fails, which shows that it notices.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from erasestream.pipeline.stages.routing import deduplication, routing_rule
from erasestream.pipeline.stages.routing.deduplication import Classification, Novelty
from erasestream.pipeline.stages.routing.freshness_barrier import FreshnessBarrier, Verdict
from erasestream.pipeline.stages.routing.router import Router
from erasestream.schemas.codec.consent_decision import ParsedDecision
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events.base import Position
from erasestream.topics.admin.record_purge import Committed
from erasestream.topics.kafka.records import Partition
from tests.pipeline.stages.routing import join_machine
from tests.pipeline.stages.routing.join_brokers import ACCOUNTS
from tests.pipeline.stages.routing.join_machine import NAMES, JoinMachine
from tests.pipeline.stages.routing.join_members import InferenceWorker

EXAMPLES = settings(
    max_examples=150,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_join_holds_whatever_happens() -> None:
    run_state_machine_as_test(JoinMachine, settings=EXAMPLES)  # type: ignore[no-untyped-call]


def every_result_is_new(
    mark: ReplayMark, position: Position, **_: Callable[[], object]
) -> Classification:
    """Classify without memory."""
    return Classification(
        Novelty.NEW, ReplayMark(topic_id=position.topic_id, offset=position.offset)
    )


def gaps_are_ignored(
    mark: ReplayMark, position: Position, *, current_topic_id: Any, log_start: Any
) -> Classification:
    """Classify, and skip gaps silently."""
    found = REAL_CLASSIFY(
        mark, position, current_topic_id=current_topic_id, log_start=lambda: position.offset
    )
    return Classification(found.novelty, found.mark)


def purges_one_more(*, routed: dict[Partition, Committed], **others: Any) -> dict[Partition, int]:
    """Purge one offset beyond the committed one."""
    found = REAL_PURGEABLE(routed=routed, **others)
    return {at: offset + (at.topic.startswith("uploads")) for at, offset in found.items()}


REAL_CLASSIFY = deduplication.classify
REAL_MARK_AFTER_LOSS = deduplication.mark_after_loss
REAL_PURGEABLE = join_machine.purgeable_offsets

BROKEN: dict[str, tuple[object, str, object]] = {
    "replays are routed": (deduplication, "classify", every_result_is_new),
    "gaps are ignored": (deduplication, "classify", gaps_are_ignored),
    "view is never behind": (FreshnessBarrier, "check", lambda *_, **__: Verdict.DECIDE),
    "clocks are trusted": (routing_rule, "MAX_CLOCK_SKEW", timedelta(0)),
    "any photo is an original": (routing_rule, "is_original", lambda *_: True),
    "late grants count": (ParsedDecision, "is_void", lambda *_: False),
    "purges one more": (join_machine, "purgeable_offsets", purges_one_more),
    "nothing is retained": (Router, "_retained", lambda *_: ()),
    "losses are ignored": (deduplication, "mark_after_loss", lambda mark, **_: mark),
    "a loss is bounded too low": (
        deduplication,
        "mark_after_loss",
        lambda mark, *, first_younger, **_: REAL_MARK_AFTER_LOSS(
            mark, current_topic_id=mark.topic_id, first_younger=first_younger // 2
        ),
    ),
    "mark is not committed": (
        Router,
        "offset_metadata",
        lambda _, __: str(ReplayMark(topic_id="topic-" + "0" * 16, offset=-1)),
    ),
}


SEARCHES = 80
"""Short searches from different seeds: one long search may look for half a minute in vain for what
most others find at once."""
SEARCH = settings(
    EXAMPLES,
    max_examples=25,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    database=None,
    verbosity=Verbosity.quiet,
)


def is_noticed(number: int) -> bool:
    """Return whether the search from this seed fails."""

    @seed(number)
    def machine() -> JoinMachine:
        return JoinMachine()

    try:
        run_state_machine_as_test(machine, settings=SEARCH)  # type: ignore[no-untyped-call]
    except (AssertionError, InvariantBroken):
        return True
    return False


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, replacement = BROKEN[broken]
    monkeypatch.setattr(owner, name, replacement)
    assert any(map(is_noticed, range(SEARCHES)))


def test_a_missing_result_stops_the_router() -> None:
    """A gap whose uploads still exist is never skipped."""
    machine = JoinMachine()
    machine.brokers.upload(ACCOUNTS[0], 0)
    machine.brokers.upload(ACCOUNTS[0], 0)
    skipping = InferenceWorker(machine.brokers, 0, 1)
    skipping.read(1)
    skipping.append()
    router = machine.current[NAMES[0]]
    router.read(1)
    with pytest.raises(InvariantBroken, match="missing"):
        router.handle()
    assert machine.brokers.ephemeral == []


def test_a_loss_is_remembered_until_its_gap() -> None:
    """The records left begin with a replay; the router commits it and is killed before the gap."""
    machine = JoinMachine()
    for _ in range(4):
        machine.brokers.upload(ACCOUNTS[0], 0)
    worker, zombie = (InferenceWorker(machine.brokers, 0, start) for start in (0, 1))
    worker.read(4)
    zombie.read(1)
    for each in (worker, worker):
        each.append()
    machine.router_works(NAMES[0], 2)
    for each in (worker, zombie, worker):
        each.append()
    machine.cutouts_expire(0, 3)
    for _ in ("the replay", "the result after the gap"):
        machine.router_is_killed(NAMES[0])
        machine.router_works(NAMES[0], 1)
    assert [source.offset for source in machine.brokers.ephemeral] == [0, 1, 3]
    assert [source.offset for source in machine.brokers.purged] == [2]

"""The bound on images in memory."""

import pytest

from erasestream.pipeline.gateway.memory_budget import MemoryBudget
from erasestream.pipeline.gateway.problems import Problem
from erasestream.schemas.ids import AccountId

ALICE, BOB, CAROL = AccountId("alice"), AccountId("bob"), AccountId("carol")


def test_one_account_leaves_room_for_others() -> None:
    budget = MemoryBudget(100)
    with budget.admit(30, ALICE), budget.admit(20, ALICE) as second:
        with pytest.raises(Problem, match="overloaded"):
            budget.admit(1, ALICE)
        with budget.admit(50, BOB), pytest.raises(Problem, match="overloaded"):
            budget.admit(1, CAROL)
        second.resize(5)
        with budget.admit(15, ALICE):
            assert budget.used == 50
    assert budget.used == 0
    budget.admit(50, ALICE)

"""A stage that loads once it is open has time while it makes progress, but not without end."""

from datetime import timedelta

import pytest

from erasestream.pipeline.runtime.runner import EX_UNAVAILABLE, LONGEST_LOADING
from tests.pipeline.runtime.test_runner import ScriptedStage, runner


class LoadingStage(ScriptedStage):
    """Loads something in each of its first turns, and never becomes ready."""

    def __init__(self, turns_with_progress: int) -> None:
        super().__init__()
        self.is_prepared = False
        self.turns = 0
        self.turns_with_progress = turns_with_progress

    def run_once(self, timeout_s: float) -> None:
        self.turns += 1
        super().run_once(timeout_s)

    def loaded(self) -> int:
        return min(self.turns, self.turns_with_progress)


@pytest.mark.parametrize(
    ("turns_with_progress", "turns"), [(5, 6), (2 * LONGEST_LOADING, LONGEST_LOADING)]
)
def test_the_deadline_counts_from_the_last_progress(turns_with_progress: int, turns: int) -> None:
    """A gateway reads its index, of as many images as there may be; each turn takes a deadline."""
    stage = LoadingStage(turns_with_progress)
    stage_runner = runner(
        stage, ready_deadline=timedelta(seconds=1), clock=lambda: float(stage.turns)
    )
    assert stage_runner.run() == EX_UNAVAILABLE
    assert stage.turns == turns

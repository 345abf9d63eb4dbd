"""A stage that loads once it is open has time for as long as it makes progress."""

from datetime import timedelta

from erasestream.pipeline.runtime.runner import EX_UNAVAILABLE
from tests.pipeline.runtime.test_runner import ScriptedStage, runner


class LoadingStage(ScriptedStage):
    """Loads something in each of its first turns, and never becomes ready."""

    turns = 0

    def run_once(self, timeout_s: float) -> None:
        self.turns += 1
        super().run_once(timeout_s)

    def loaded(self) -> int:
        return min(self.turns, 5)


def test_the_deadline_counts_from_the_last_progress() -> None:
    """A gateway reads its index, of as many images as there may be."""
    stage = LoadingStage()
    stage.is_prepared = False
    assert runner(stage, ready_deadline=timedelta(0)).run() == EX_UNAVAILABLE
    assert stage.turns == 6, "it ends with the first turn without progress"

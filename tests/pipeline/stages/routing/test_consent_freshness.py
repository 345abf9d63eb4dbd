"""Results wait until the consent view is as fresh as they are."""

import threading

import pytest

from erasestream.pipeline.stages.routing import consent_freshness
from erasestream.pipeline.stages.routing.consent_freshness import ConsentFreshness
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.ids import AccountId
from erasestream.topics.kafka.consumer.compacted_view import Mark
from tests.pipeline.stages.routing.join_brokers import FakeBrokers
from tests.pipeline.stages.routing.join_members import FakeConsentView


class UnavailableView(FakeConsentView):
    """A view whose leader gives the test's answers, one for each request."""

    def __init__(self, brokers: FakeBrokers, *answers: bool) -> None:
        super().__init__(brokers)
        self.answers = list(answers)
        self.caught_up: list[Mark] = []

    def mark(self, *, timeout_s: float | None = None) -> Mark:
        if not self.answers.pop(0):
            raise Unavailable("a leader")
        return super().mark(timeout_s=timeout_s)

    def catch_up(self, mark: Mark, *, deadline_s: float) -> None:
        self.caught_up.append(mark)
        super().catch_up(mark, deadline_s=deadline_s)


def test_nothing_is_fresh_without_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark is retried until there is one; only then the view is caught up to it."""
    monkeypatch.setattr(consent_freshness, "RETRY_S", 0.01)
    brokers = FakeBrokers()
    view = UnavailableView(brokers, False, False, True, True)
    freshness = ConsentFreshness(view=view, stopping=threading.Event())
    assert not freshness.is_fresh()
    brokers.decide(AccountId("ann"), Decision.REVOKED, late_ms=0)
    freshness.wait_until_fresh()
    (mark,) = view.caught_up
    assert sum(mark.values()) == 1
    assert freshness.is_fresh()


def test_waiting_ends_when_the_stage_is_to_stop() -> None:
    stopping = threading.Event()
    stopping.set()
    view = UnavailableView(FakeBrokers(), False, False)
    freshness = ConsentFreshness(view=view, stopping=stopping)
    with pytest.raises(Unavailable):
        freshness.wait_until_fresh()

"""The checker of a gateway's storm counts each kind of error, and accepts every correct outcome."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.bench.https_clients import Server
from tests.faults.gateway_storm import outcome_of
from tests.faults.gateway_traffic import Finished, GatewayTraffic

UPLOADS = ("a", "b", "c")


class Storm:
    """Three uploads of one photo, each answered twice with its one cut-out."""

    def __init__(self) -> None:
        self.uploads, self.results = Counter(UPLOADS), Counter(UPLOADS)
        self.traffic = GatewayTraffic(Server("127.0.0.1", 1), [b"photo"], {})
        for key in UPLOADS:
            self.traffic.begun[key] += 1
            self.answer(key, "cut-out")

    def answer(self, key: str, first: str, again: str | None = None) -> None:
        others = [each for each in self.traffic.finished if each.key != key]
        self.traffic.finished = [*others, Finished(key, 0, first, again or first)]

    @property
    def wrong(self) -> dict[str, int]:
        found = outcome_of(self.uploads, self.results, self.traffic).wrong
        return {name: count for name, count in found.items() if count}


def appended_twice(storm: Storm) -> None:
    storm.uploads["a"] = storm.results["a"] = 2


def refused_first(storm: Storm) -> None:
    storm.traffic.begun["a"] += 1
    storm.traffic.refused["in_progress"] += 1


def appended_by_someone_else(storm: Storm) -> None:
    storm.uploads["other"] = storm.results["other"] = 1


@pytest.mark.parametrize(
    "change", [lambda _: None, appended_twice, refused_first, appended_by_someone_else]
)
def test_a_correct_outcome_is_accepted(change: Callable[[Storm], None]) -> None:
    storm = Storm()
    change(storm)
    assert storm.wrong == {}


def unanswered(storm: Storm) -> None:
    storm.traffic.begun["d"] += 1


def wrongly_answered(storm: Storm) -> None:
    storm.traffic.wrong["internal_error"] += 1


def lost(storm: Storm) -> None:
    del storm.results["a"]


def duplicated(storm: Storm) -> None:
    storm.results["a"] = 2


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (unanswered, "unanswered"),
        (wrongly_answered, "wrongly_answered"),
        (lambda storm: storm.answer("a", "cut-out", "another"), "answered_differently"),
        (lambda storm: storm.answer("a", "of another photo"), "mixed_up"),
        (lost, "lost"),
        (duplicated, "duplicated"),
    ],
)
def test_each_kind_of_error_is_counted(change: Callable[[Storm], None], name: str) -> None:
    storm = Storm()
    change(storm)
    assert storm.wrong == {name: 1}

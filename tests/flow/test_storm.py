"""A one-minute storm, and the parts of the storm that are checked without a cluster."""

from pathlib import Path

import pytest

from tests.faults.fault_plan import FaultKind, fault_sequence
from tests.faults.stage_exits import StageExit, count_transactions
from tests.faults.storm import Size, storm
from tests.faults.verdict import GRANTED, MUST_NOT_BE_RETAINED, REVOKED

SEED = 2_136_383
"""With this seed, the first fifteen faults cover every kind, and kill all stages but a worker and a
router; both replicas of the key service one after the other.

The first stops a broker, and the last but one kills a broker, which has settled long before."""
MINUTE = Size(
    uploads=400,
    max_waiting=100,
    faults=15,
    seconds=600.0,
    partitions=4,
    deciders=3,
    every_s=3.0,
    waits_for_stages=True,
)
"""One minute on two idle cores; on busy ones the storm runs until all of it is done."""


@pytest.mark.timeout(1500)
def test_a_minute_of_storm() -> None:
    """With everything killed, stopped, cut off or slowed, the checker finds nothing wrong."""
    outcome = storm(MINUTE, SEED)
    verdict = outcome.verdict
    wrong = {name: count for name, count in outcome.wrong.items() if count}
    # A minute may have no judgeable upload of an account with two writers; the full storm has some.
    wrong.pop("two_writers_not_judged", None)
    assert not wrong, (wrong, verdict, outcome.exits)
    assert outcome.uploads >= MINUTE.uploads
    assert set(outcome.faults) == set(FaultKind)
    assert outcome.transactions.committed > 0
    assert verdict.bound[GRANTED] > 0
    assert verdict.bound[REVOKED] > 0
    assert verdict.bound[MUST_NOT_BE_RETAINED] > 0


def test_a_seed_replays_its_faults() -> None:
    first, again, other = (
        [f for f, _ in zip(fault_sequence(n), range(200), strict=False)] for n in (1, 1, 2)
    )
    assert first == again != other
    assert {fault.kind for fault in first} == set(FaultKind)


ENDED = '{"event": "ended", "code": "%s", "reason": "why"}'


@pytest.mark.parametrize(
    ("status", "last_line", "is_expected"),
    [
        (70, ENDED % "fenced", True),
        (69, ENDED % "broker_unavailable", True),
        (70, ENDED % "invariant_broken", False),
        (70, '{"event": "ended", "error": "ValueError"}', False),
        (78, ENDED % "misconfigured", False),
        (1, '{"event": "died", "error": "KeyError"}', False),
        (-11, "Fatal Python error: Segmentation fault", False),
        (-9, "", False),
        (0, "", False),
    ],
)
def test_expected_exits_are_recognised(
    tmp_path: Path, status: int, last_line: str, is_expected: bool
) -> None:
    """A storm explains unavailability and fencing; any other exit is a fault of ours."""
    log = tmp_path / "route.log"
    log.write_text('{"event": "ready"}\n' + last_line)
    found = StageExit.of("route", status, log)
    assert found.is_expected is is_expected, found


def test_transactions_of_all_routers_are_summed(tmp_path: Path) -> None:
    """The last complete line of each log counts; half a line does not."""
    lines = ['{"event": "ready"}', '{"event": "transactions", "committed": 3, "aborted": 0}']
    lines += ['{"event": "quarantined"}', '{"event": "transactions", "committed": 7, "aborted": 1}']
    lines += ['{"event": "transactions", "committed": 9, "abor']
    for name in ("route.log", "route-2.1.killed"):
        (tmp_path / name).write_text("\n".join(lines))
    assert count_transactions(tmp_path.glob("route*")) == (14, 2, 2)

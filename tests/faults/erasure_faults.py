"""`make faults ONLY=erasure`: owners revoke for a quarter of an hour, and the figures."""

import sys
import time
from collections.abc import Mapping

from tests.bench.figures import Figure, publish
from tests.bench.servers import servers
from tests.faults.erasure_check import judge
from tests.faults.erasure_gaps import GAPS
from tests.faults.erasure_races import killed_before_commit, races
from tests.faults.erasure_storm import ErasureOutcome, erasure_storm
from tests.faults.erasure_victims import SINKS, ErasureSize
from tests.faults.receipts_check import refusals

FULL = ErasureSize(
    accounts=300,
    pictures=10,
    kills={"sink": 150, "erase": 4, "attest": 6},
    longest_s={"sink": 3.0, "erase": 120.0, "attest": 60.0},
    ambushes=8,
)
AT_LEAST = {"sink_kills": 300}
"""Counts that a full storm has to reach, where one is not enough."""
OF_A_TRIAL = {"raced_grants_marked": 0}
"""In a trial erasers may be killed before they create a marker in time."""


def run(seed: int, accounts: int = FULL.accounts) -> int:
    """Run the storm; publish its figures if it is a full one.  Return 0 if nothing is wrong.

    With fewer accounts there are fewer kills.
    """
    begun_s = time.monotonic()
    is_full = accounts >= FULL.accounts
    with servers(partitions=2) as stack:
        outcome = erasure_storm(stack, FULL.part(accounts), seed)
    for name, count in (outcome.kills + refusals(outcome.evidence)).items():
        sys.stderr.write(f"{count:6} {name}\n")
    for each in outcome.exits:
        sys.stderr.write(f"       {each}\n")
    figures = [
        Figure("faults.erasure.seconds", round(time.monotonic() - begun_s), "s"),
        *_figures(outcome, at_least=AT_LEAST if is_full else OF_A_TRIAL),
    ]
    if is_full:
        publish("faults.json", figures)
    else:
        sys.stderr.write("".join(f"{figure}\n" for figure in figures))  # a trial
    return int(not all(figure.holds in {None, True} for figure in figures))


def _figures(outcome: ErasureOutcome, *, at_least: Mapping[str, int]) -> list[Figure]:
    evidence = outcome.evidence
    wrong = judge(evidence)
    wrong["ended_unexplained"] = sum(not each.is_expected for each in outcome.exits)
    met = {
        "sink_kills": sum(outcome.kills[name] for name in SINKS),
        "killed_before_commit": killed_before_commit(evidence),
        **{f"killed_after_{gap}": outcome.met[gap] for gap in GAPS},
        **{f"raced_{name}": count for name, count in races(evidence).items()},
    }
    return [
        Figure("faults.erasure.accounts", len(evidence.accounts), "1"),
        Figure("faults.erasure.pictures", len(evidence.written), "1"),
        Figure("faults.erasure.receipts", len(evidence.receipts), "1"),
        Figure("faults.erasure.cosigned", outcome.cosigned, "1"),
        Figure("faults.erasure.kills", outcome.kills.total(), "1"),
        *(_met(name, count, at_least.get(name, 1)) for name, count in met.items()),
        *(
            Figure(f"faults.erasure.{name}", count, "1", "= 0", count == 0)
            for name, count in sorted(wrong.items())
        ),
    ]


def _met(name: str, count: int, at_least: int) -> Figure:
    """Return the figure of what a storm has to meet: one that did not has shown nothing."""
    return Figure(f"faults.erasure.{name}", count, "1", f">= {at_least}", count >= at_least)

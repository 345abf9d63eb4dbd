"""Faults: `python -m tests.faults [storm|hostile|batches|overload|gateway|erasure]`; `--help`.

Faults, checks and figures: `docs/faults.md`, `docs/hostile.md`.
"""

import argparse
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench.figures import Figure, publish
from tests.faults import erasure_faults, gateway_faults, hostile, hostile_batches, overload
from tests.faults.storm import Outcome, Size, storm
from tests.faults.verdict import GRANTED, MISSED, REVOKED, Verdict

UPLOADS = 20_000
SECONDS = 5400.0
OTHERS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "hostile": lambda given: hostile.run(given.seed),
    "batches": lambda given: hostile_batches.run(given.seed),
    "overload": lambda _given: overload.run(),
    "gateway": lambda _given: gateway_faults.run(),
    "erasure": lambda given: erasure_faults.run(given.seed, given.accounts),
}
"""The other groups, run with the options; each returns 0 if nothing is wrong."""


def main() -> int:
    """Run one group or all, the storm first; return 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="faults")
    parser.add_argument("only", nargs="?", choices=("storm", *OTHERS))
    parser.add_argument("--uploads", type=int, default=UPLOADS)
    parser.add_argument("--accounts", type=int, default=erasure_faults.FULL.accounts)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--keep", type=Path, help="an empty folder to keep logs and data in")
    given = parser.parse_args()
    sys.stderr.write(f"seed {given.seed}\n")
    if given.only in OTHERS:
        return OTHERS[given.only](given)
    outcome = storm(Size(uploads=given.uploads, seconds=given.seconds), given.seed, given.keep)
    for name, count in outcome.faults.items():
        sys.stderr.write(f"{count:6} {name}\n")
    for stage_exit, count in Counter(outcome.exits).items():
        unexplained = "" if stage_exit.is_expected else ": UNEXPLAINED"
        sys.stderr.write(f"{count:6} {stage_exit}{unexplained}\n")
    for name, count in (outcome.verdict.bound + outcome.verdict.details).items():
        sys.stderr.write(f"{count:6} uploads: {name}\n")
    figures = _figures(outcome, given.seed)
    if outcome.uploads < given.uploads:
        sys.stderr.write(f"time ran out after {outcome.uploads} of {given.uploads} uploads\n")
    if given.uploads < UPLOADS:
        sys.stderr.write("".join(f"{figure}\n" for figure in figures))  # a trial, not the storm
    else:
        publish("faults.json", figures)
    wrong = int(any(outcome.wrong.values()))
    if given.only:
        return wrong
    return max(wrong, *(run(given) for run in OTHERS.values()))


def _figures(outcome: Outcome, seed: int) -> list[Figure]:
    per_s = outcome.decisions / outcome.seconds
    return [
        Figure("faults.uploads", outcome.uploads, "1", ">= 20000", outcome.uploads >= UPLOADS),
        Figure("faults.kills", outcome.kills, "1"),
        Figure("faults.faults", outcome.faults.total(), "1"),
        Figure("faults.seconds", round(outcome.seconds), "s"),
        Figure("faults.decisions_per_s", round(per_s, 1), "1/s", ">= 20", per_s >= 20),
        Figure("faults.confirmed_revocations", outcome.confirmed, "1"),
        *_judged(outcome.verdict),
        Figure("faults.seed", seed, "1"),
        *(
            Figure(f"faults.{name}", count, "1", "= 0", count == 0)
            for name, count in outcome.wrong.items()
        ),
        Figure("faults.ended_by_themselves", len(outcome.exits), "1"),
        Figure("faults.transactions_committed", outcome.transactions.committed, "1"),
        Figure("faults.transactions_aborted", outcome.transactions.aborted, "1"),
        Figure("faults.missed_by_the_checker", outcome.verdict.details[MISSED], "1"),
    ]


def _judged(verdict: Verdict) -> list[Figure]:
    """Return the figures of uploads that were judged by their owners' calls."""
    return [
        *(
            Figure(f"faults.judged_by_{name}{suffix}", counted[claim], "1")
            for name, claim in (("revocation", REVOKED), ("grant", GRANTED))
            for suffix, counted in (("", verdict.bound), (".two_writers", verdict.shared))
        ),
        Figure("faults.mended_decisions", verdict.rewritten, "1"),
    ]


if __name__ == "__main__":
    sys.exit(main())

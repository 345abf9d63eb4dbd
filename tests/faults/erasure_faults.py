"""`make faults ONLY=erasure`: owners revoke for ten minutes, and the figures."""

import sys
from dataclasses import replace

from tests.bench.figures import Figure, publish
from tests.bench.servers import servers
from tests.faults.erasure_storm import ErasureSize, erasure_storm

FULL = ErasureSize(
    accounts=300,
    pictures=20,
    seconds=300.0,
    kills=8,
    processes=("sink", "sink-2", "erase", "erase-2", "attest", "attest-2"),
    longest_s={"sink": 5.0, "erase": 60.0, "attest": 5.0},
)


def run(seed: int, accounts: int = FULL.accounts) -> int:
    """Run the storm; publish its figures if it is a full one.  Return 0 if nothing is wrong.

    With fewer accounts it has less time, and fewer kills.
    """
    part = accounts / FULL.accounts
    size = replace(
        FULL,
        accounts=accounts,
        seconds=FULL.seconds * part,
        kills=max(1, int(FULL.kills * part)),
        longest_s={name: most_s * min(1.0, part) for name, most_s in FULL.longest_s.items()},
    )
    with servers(partitions=2) as stack:
        outcome = erasure_storm(stack, size, seed)
    for name, count in (outcome.kills + outcome.refused).items():
        sys.stderr.write(f"{count:6} {name}\n")
    for each in outcome.exits:
        sys.stderr.write(f"       {each}\n")
    figures = [
        Figure("faults.erasure.accounts", outcome.accounts, "1"),
        Figure("faults.erasure.receipts", outcome.receipts, "1"),
        Figure("faults.erasure.cosigned", outcome.cosigned, "1"),
        Figure("faults.erasure.kills", outcome.kills.total(), "1"),
        *(
            Figure(f"faults.erasure.{name}", count, "1", "= 0", count == 0)
            for name, count in sorted(outcome.wrong.items())
        ),
    ]
    if accounts < FULL.accounts:
        sys.stderr.write("".join(f"{figure}\n" for figure in figures))  # a trial
    else:
        publish("faults.json", figures)
    return int(any(outcome.wrong.values()))

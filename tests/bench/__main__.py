"""Run the groups named, or all: `python -m tests.bench [GROUP ...]`."""

import sys
from collections.abc import Callable, Iterator

from tests.bench import (
    clients,
    consent,
    end_to_end,
    envelope,
    erasure,
    fairness,
    gateway,
    gateway_index,
    inference,
    join,
    keys,
    overhead,
    reader,
    receipts,
    sealing,
    sink,
    slow_images,
    soak,
)
from tests.bench.figures import Figure, publish

GROUPS: dict[str, Callable[[], Iterator[Figure]]] = {
    "pipeline": end_to_end.measure,
    "inference": inference.measure,
    "join": join.measure,
    "own": overhead.measure,
    "slow": slow_images.measure,
    "soak": soak.measure,
    "fairness": fairness.measure,
    "clients": clients.measure,
    "consent": consent.measure,
    "envelope": envelope.measure,
    "sealing": sealing.measure,
    "receipts": receipts.measure,
    "keys": keys.measure,
    "sink": sink.measure,
    "reader": reader.measure,
    "erasure": erasure.measure,
    "index": gateway_index.measure,
    "gateway": gateway.measure,
}


def main(names: list[str]) -> int:
    """Measure, print, and write `docs/figures/bench.json`."""
    unknown = set(names) - GROUPS.keys()
    if unknown:
        sys.stderr.write(f"no group {', '.join(unknown)}; there are {', '.join(GROUPS)}\n")
        return 2
    for name in names or GROUPS:
        sys.stderr.write(f"measuring {name} ...\n")
        publish("bench.json", GROUPS[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

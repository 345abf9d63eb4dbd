"""Load the consent view as the router does, in a process of its own, and report the cost."""

import gc
import json
import sys
import time

from erasestream.pipeline.settings import load
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.connection import Connection
from tests.bench.servers import memory_mb

DEADLINE_S = 200.0


def main() -> None:
    """Measure before the view is opened and after it has caught up."""
    settings = load()
    gc.collect()
    empty_mb, _ = memory_mb()
    started, started_cpu_s = time.monotonic(), time.process_time()
    found: list[object] = []
    view = ConsentView(
        connection=Connection(cluster=settings.cluster, role=ROUTER),
        catalog=settings.catalog(),
        lanes=settings.catalog().lane_names,
        report=lambda *finding: found.append(finding),
    )
    view.catch_up(view.mark(), deadline_s=DEADLINE_S)
    load_s, used_s = time.monotonic() - started, time.process_time() - started_cpu_s
    loaded_mb, peak_mb = memory_mb()
    report = {
        "granted": len(view),
        "found": len(found),
        "empty_mb": empty_mb,
        "loaded_mb": loaded_mb,
        "peak_mb": peak_mb,
        "load_s": load_s,
        "cpu_s": used_s,
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()

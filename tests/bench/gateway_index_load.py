"""Load the index as a gateway does, in a process of its own, and report the cost."""

import gc
import json
import sys
import time

from erasestream.pipeline.bootstrap.credentials import account_connection
from erasestream.pipeline.settings import load
from erasestream.schemas.clocks import utc_now
from erasestream.topics.index.view import image_index_view
from tests.bench.running_pipeline import SHOP
from tests.bench.servers import memory_mb


def main() -> None:
    """Measure before the view is opened and after it is loaded."""
    connection = account_connection(load(), SHOP)
    gc.collect()
    empty_mb, _ = memory_mb()
    started, started_cpu_s = time.monotonic(), time.process_time()
    with image_index_view(connection, SHOP, now=utc_now) as view:
        while not view.is_loaded:
            view.follow(0.2)
        load_s, used_s = time.monotonic() - started, time.process_time() - started_cpu_s
        loaded_mb, peak_mb = memory_mb()
        report = {
            "images": len(view.table),
            "empty_mb": empty_mb,
            "loaded_mb": loaded_mb,
            "peak_mb": peak_mb,
            "load_s": load_s,
            "cpu_s": used_s,
        }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()

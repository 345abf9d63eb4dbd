"""Clients of the key service, in a process of its own: `key_load CLIENTS EPOCH_S`.

Prints how long each client waits for its key when all ask at a change of epochs, and the requests
per second while all ask without a pause.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from erasestream.pipeline.settings import load
from erasestream.topics.catalog.purposes import uploads_for
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient
from tests.bench.running_pipeline import SHOP

TIMEOUT_S = 60.0
STEADY_S = 5.0


def main(clients: int, epoch_s: float) -> None:
    """Print the report of one round."""
    settings = load()
    role = lane_role(SHOP, LaneRole.PRODUCER)
    identity = Identity.load(settings.kafka.identities, role)

    def open_client() -> KeyClient:
        return KeyClient(endpoints=settings.cluster.key_endpoints, identity=identity)

    with ThreadPoolExecutor(clients) as threads:
        change_s = (time.time() // epoch_s + 1) * epoch_s
        waits = list(threads.map(lambda _: _wait_ms(open_client, change_s), range(clients)))
        end_s = time.monotonic() + STEADY_S
        counts = list(threads.map(lambda _: _count(open_client, end_s), range(clients)))
    report = {"change_ms": waits, "per_s": sum(counts) / STEADY_S}
    sys.stdout.write(json.dumps(report) + "\n")


def _wait_ms(open_client: Callable[[], KeyClient], change_s: float) -> float:
    client = open_client()
    time.sleep(max(0.0, change_s - time.time()))
    begun = time.monotonic()
    client.sealing_key(uploads_for(SHOP), timeout_s=TIMEOUT_S)
    return (time.monotonic() - begun) * 1000


def _count(open_client: Callable[[], KeyClient], end_s: float) -> int:
    count = 0
    while time.monotonic() < end_s:
        open_client().sealing_key(uploads_for(SHOP), timeout_s=TIMEOUT_S)
        count += 1
    return count


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))

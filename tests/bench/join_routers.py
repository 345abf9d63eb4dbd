"""Two routers that share the partitions, against one."""

from collections.abc import Iterator

from tests.bench.figures import Figure, figure
from tests.bench.join_harness import OURS, SHOP, JoinHarness, peak_rss_mb
from tests.bench.join_records import picture

IMAGE_BYTES = 100_000
COUNT = 2000


def measure(harness: JoinHarness, rounds: int) -> Iterator[Figure]:
    """Measure MB/s of two routers, and the ratio to one."""
    image = picture(IMAGE_BYTES)
    mb = COUNT * IMAGE_BYTES / 1e6
    routers = [harness.start_router("1")]
    rates: list[list[float]] = []
    for _ in range(2):
        harness.round(OURS, harness.results(SHOP, COUNT, image), *routers)
        done = [
            harness.round(OURS, harness.results(SHOP, COUNT, image), *routers)
            for _ in range(rounds)
        ]
        rates.append([mb / one.elapsed_s for one in done])
        if len(routers) == 1:
            # The second must not stop before the first: a static member that leaves keeps its
            # partitions until its session expires.
            routers.append(harness.start_router("2"))
    peaks = [peak_rss_mb(router) for router in routers]
    for router in routers:
        router.stop(grace_s=15)
    one, two = rates
    yield figure("join.two_routers_mb_per_s", two, "MB/s")
    ratios = [a / b for a, b in zip(two, one, strict=True)]
    yield figure("join.ratio_of_two_routers_to_one", ratios, "ratio")
    yield figure("join.rss_mb.two_routers", peaks, "MB")

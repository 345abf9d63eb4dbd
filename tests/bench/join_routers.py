"""Two routers that share the partitions, against one."""

from collections.abc import Iterator

from tests.bench.figures import Figure, figure
from tests.bench.join_harness import OURS, SHOP, JoinHarness, peak_rss_mb, picture

IMAGE_BYTES = 100_000
COUNT = 2000


def measure(bed: JoinHarness, rounds: int) -> Iterator[Figure]:
    """MB/s of two, and the ratio to one."""
    image = picture(IMAGE_BYTES)
    mb = COUNT * IMAGE_BYTES / 1e6
    routers = [bed.start_router("1")]
    rates: list[list[float]] = []
    for _ in range(2):
        bed.round(OURS, bed.results(SHOP, COUNT, image), *routers)
        done = [bed.round(OURS, bed.results(SHOP, COUNT, image), *routers) for _ in range(rounds)]
        rates.append([mb / one.elapsed_s for one in done])
        if len(routers) == 1:
            # Once the second has partitions it may only be stopped with the first: a static
            # member that leaves keeps them until its session ends.
            routers.append(bed.start_router("2"))
    peaks = [peak_rss_mb(router) for router in routers]
    for router in routers:
        router.stop(grace_s=15)
    one, two = rates
    yield figure("join.two_routers_mb_per_s", two, "MB/s")
    ratios = [a / b for a, b in zip(two, one, strict=True)]
    yield figure("join.ratio_of_two_routers_to_one", ratios, "ratio")
    yield figure("join.rss_mb.two_routers", peaks, "MB")

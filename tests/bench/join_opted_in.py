"""What opting in costs: 0, 1, 50 and 100 % of the results go to the encryption sink as well.

What is moved is what the router writes: a result that is kept is written with its original to
`retained`, so that three images are written instead of one, and one more is read.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from erasestream.pipeline.devstack.child_process import ChildProcess
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel, ConsentDecision, Decision
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import RETAINED, consent_of, cutouts_of, ephemeral_of
from erasestream.topics.kafka.partitioner import partition_of
from tests.bench.figures import Figure, figure
from tests.bench.join_harness import (
    ALBUM,
    STRANGER,
    Contender,
    JoinHarness,
    Round,
    peak_rss_mb,
    picture,
)

OWNER = AccountId("opted-in")
OURS = Contender(ROUTER, cutouts_of(ALBUM), ephemeral_of(ALBUM))
PERCENT = (0, 1, 50, 100)
IMAGE_BYTES = 100_000
COUNT = 800
IMAGES_IF_KEPT = 3


def decide(bed: JoinHarness, lane: Lane, account: AccountId, decision: Decision) -> None:
    """A decision, as the account service writes it; not waited for."""
    event = ConsentDecision(
        id=new_upload_id(1, time.monotonic_ns().to_bytes(10, "big")),
        time=datetime.now(UTC),
        account=account,
        decision=decision,
        actor="bench",
        channel=Channel.LIBRARY,
    )
    topic, key = consent_of(lane), account.encode()
    wire = to_wire(event, source="/bench")
    number = partition_of(key, bed.stack.catalog()[topic].partitions)
    bed.plain.produce(topic, wire.value, key, number, headers=list(wire.headers))
    bed.plain.poll(0)


def measure(bed: JoinHarness, rounds: int) -> Iterator[Figure]:
    """MB/s that are moved at each rate, and its ratio to that at 0 %."""
    decide(bed, ALBUM, OWNER, Decision.GRANTED)
    if bed.plain.flush(20):
        raise ErasestreamError("the grant was not written")
    # In doubt about the clocks of two brokers an upload counts as one from before the grant.
    time.sleep(1.5 * MAX_CLOCK_SKEW.total_seconds())
    image = picture(IMAGE_BYTES)
    router = bed.start_router()
    done: dict[int, list[Round]] = {percent: [] for percent in PERCENT}
    for _ in range(rounds + 1):
        for percent in PERCENT:
            done[percent].append(_round(bed, image, percent, router))
    peak = peak_rss_mb(router)
    router.stop(grace_s=15)
    rates = {
        percent: [_moved_mb(percent) / one.elapsed_s for one in done[percent][1:]]
        for percent in PERCENT
    }
    for percent, values in rates.items():
        yield figure(f"join.moved_mb_per_s.{percent}", values, "MB/s")
        cpu = [one.cpu_s / _moved_mb(percent) * 1000 for one in done[percent][1:]]
        yield figure(f"join.opted_in_cpu_s_per_gb.{percent}", cpu, "s/GB")
        if percent:
            ratios = [one / none for one, none in zip(values, rates[0], strict=True)]
            goal = 0.8 if percent == PERCENT[-1] else None
            yield figure(f"join.opted_in_ratio.{percent}", ratios, "ratio", at_least=goal)
    yield Figure("join.rss_mb.opted_in", round(peak, 1), "MB")


def _is_kept(number: int, percent: int) -> bool:
    """Evenly spread."""
    return (number + 1) * percent // 100 > number * percent // 100


def _moved_mb(percent: int) -> float:
    kept = COUNT * percent // 100
    return (COUNT + kept * (IMAGES_IF_KEPT - 1)) * IMAGE_BYTES / 1e6


def _round(bed: JoinHarness, image: bytes, percent: int, router: ChildProcess) -> Round:
    results = bed.results(
        ALBUM, COUNT, image, lambda number: OWNER if _is_kept(number, percent) else STRANGER
    )
    bed.write_uploads(ALBUM, results, image)
    before = sum(bed.ends_of(RETAINED).values())
    done = bed.round(OURS, results, router)
    written = sum(bed.ends_of(RETAINED).values()) - before
    if written < (IMAGES_IF_KEPT - 1) * (COUNT * percent // 100):
        raise ErasestreamError(f"{written} pictures were kept at {percent} %")
    return done

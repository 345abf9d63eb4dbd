"""The cost of opting in: 0, 1, 50 and 100 % of the results go to the encryption sink as well.

Moved bytes are those that the router writes: a retained result is written to `retained` as well,
together with its upload, so three images are written instead of one, and one more is read.
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
from tests.bench.join_harness import ALBUM, Contender, JoinHarness, Round, peak_rss_mb
from tests.bench.join_records import NOT_OPTED_IN, picture

OWNER = AccountId("opted-in")
OURS = Contender(ROUTER, cutouts_of(ALBUM), ephemeral_of(ALBUM))
PERCENT = (0, 1, 50, 100)
IMAGE_BYTES = 100_000
COUNT = 800
IMAGES_IF_RETAINED = 3


def decide(harness: JoinHarness, lane: Lane, account: AccountId, decision: Decision) -> None:
    """Produce a decision in the format of the account service, without waiting for it."""
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
    number = partition_of(key, harness.stack.catalog()[topic].partitions)
    harness.plain.produce(topic, wire.value, key, number, headers=list(wire.headers))
    harness.plain.poll(0)


def measure(harness: JoinHarness, rounds: int) -> Iterator[Figure]:
    """Measure MB/s moved at each percentage, and the ratio to that at 0 %."""
    decide(harness, ALBUM, OWNER, Decision.GRANTED)
    if harness.plain.flush(20):
        raise ErasestreamError("the grant was not written")
    # Within the clock skew, an upload counts as made before the grant.
    time.sleep(1.5 * MAX_CLOCK_SKEW.total_seconds())
    image = picture(IMAGE_BYTES)
    router = harness.start_router()
    done: dict[int, list[Round]] = {percent: [] for percent in PERCENT}
    for _ in range(rounds + 1):
        for percent in PERCENT:
            done[percent].append(_round(harness, image, percent, router))
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


def _is_retained(number: int, percent: int) -> bool:
    """Spread the retained results evenly."""
    return (number + 1) * percent // 100 > number * percent // 100


def _moved_mb(percent: int) -> float:
    retained = COUNT * percent // 100
    return (COUNT + retained * (IMAGES_IF_RETAINED - 1)) * IMAGE_BYTES / 1e6


def _round(harness: JoinHarness, image: bytes, percent: int, router: ChildProcess) -> Round:
    results = harness.results(
        ALBUM, COUNT, image, lambda number: OWNER if _is_retained(number, percent) else NOT_OPTED_IN
    )
    harness.write_uploads(ALBUM, results, image)
    before = sum(harness.ends_of(RETAINED).values())
    done = harness.round(OURS, results, router)
    written = sum(harness.ends_of(RETAINED).values()) - before
    if written < (IMAGES_IF_RETAINED - 1) * (COUNT * percent // 100):
        raise ErasestreamError(f"{written} pictures were retained at {percent} %")
    return done

"""Three hundred forged record batches, with a lane's certificates, against the running pipeline."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.faults.batch_fuzzer import BatchFuzzer
from tests.flow.pipeline_harness import BULK, PARTITIONS, SHOP, STAGES, PipelineHarness
from tests.flow.topic_reader import event_of, ids_in
from tests.flow.upload_batch import opt_in
from tests.flow.waiting import eventually

BATCHES = 300
SEED = 20
CONFIRM_S = 180.0
LANES = (SHOP, BULK)


@pytest.fixture(scope="module")
def erasing(flow: PipelineHarness) -> Iterator[PipelineHarness]:
    """Yield the pipeline with a running eraser."""
    flow.start_stages(["erase"])
    try:
        yield flow
    finally:
        flow.stack.stop_stage("erase")


def processes(flow: PipelineHarness) -> dict[str, int]:
    """Return the process ids of the stages that run."""
    running = flow.stack.running()
    return {name: running[name] for name in (*STAGES, "erase") if name in running}


def unanswered(flow: PipelineHarness, lane: Lane) -> Counter[tuple[int, int]]:
    """Return the positions of a lane that have not exactly one result, and how many they have."""
    with Admin(flow.stack.admin()) as admin:
        partitions = [Partition(uploads_of(lane), n) for n in range(PARTITIONS[lane])]
        ends = OffsetQueries(admin).log_ends(partitions)
    expected = Counter((at.number, offset) for at, end in ends.items() for offset in range(end))
    positions = (event_of(record).position for record in flow.results(lane))
    found = Counter((position.partition, position.offset) for position in positions)
    return Counter({at: found[at] for at in expected | found if found[at] != expected[at]})


def revoked_account(flow: PipelineHarness, lane: Lane) -> str:
    """Return an account with a confirmed revocation."""
    account = f"fuzz-revoked-{lane}"
    flow.grant(account, lane)
    revoked = flow.revoke(account, lane)
    flow.consent(lane).await_confirmed(account, revoked, timeout_s=CONFIRM_S)
    return account


def test_forged_batches_disturb_no_lane(erasing: PipelineHarness) -> None:
    """One result for each offset, every process goes on, and every confirmed revocation holds."""
    flow = erasing
    opt_in(flow, "fuzz-opted-in")
    revoked = {lane: revoked_account(flow, lane) for lane in LANES}
    before = processes(flow)
    honest: dict[Lane, list[UploadId]] = {lane: [] for lane in LANES}
    with BatchFuzzer(flow.stack.cluster, SHOP, PARTITIONS[SHOP], random.Random(SEED)) as fuzzer:
        for number in range(BATCHES):
            fuzzer.send()
            if number % 20 == 0:
                for lane in LANES:
                    honest[lane].append(flow.upload(revoked[lane], lane=lane).upload_id)
    kept = flow.upload("fuzz-opted-in").upload_id
    for lane in LANES:
        eventually(f"all results of {lane}", lambda lane=lane: not unanswered(flow, lane))  # type: ignore[misc]
        results = Counter(ids_in(flow.results(lane)))
        assert {results[upload] for upload in honest[lane]} == {1}
    assert fuzzer.accepted > BATCHES // 4, fuzzer.errors
    assert processes(flow) == before
    retained = Counter(flow.in_retained())
    assert {retained[upload] for lane in LANES for upload in honest[lane]} == {0}
    assert retained[kept] == 2

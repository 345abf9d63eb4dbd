"""A worker that comes to the others: the group does not stand still until they have done."""

import os
import signal
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from erasestream.topics.catalog import INFERENCE, uploads_of
from erasestream.topics.record import Partition
from tests.flow.running import PARTITIONS, SHOP, Flow
from tests.flow.tallies import Tally
from tests.flow.waiting import eventually

UPLOADS = 40


def zygotes_of(flow: Flow, stage: str) -> list[int]:
    """The processes that a worker's children are made by."""
    running = flow.stack.stage(stage).process_id
    assert running is not None
    found = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    return [int(pid) for pid in found]


def places() -> list[Partition]:
    """Of the uploads."""
    return [Partition(uploads_of(SHOP), number) for number in range(PARTITIONS[SHOP])]


def committed(flow: Flow) -> list[int]:
    """How far the workers have acknowledged."""
    asked = ConsumerGroupTopicPartitions(INFERENCE, [TopicPartition(*at) for at in places()])
    admin = flow.stack.admin().admin()
    (future,) = admin.client.list_consumer_group_offsets([asked]).values()
    return [tp.offset for tp in future.result(20).topic_partitions]


def ends(flow: Flow) -> list[int]:
    """How far they reach."""
    admin = flow.stack.admin().admin()
    return [admin.log_end(at) for at in places()]


def test_it_waits_for_no_image(fragile: Flow) -> None:
    """With an image that does not end in one worker another gets its share, and serves it.

    What the first one had begun comes once, whoever makes it.
    """
    flow = fragile
    flow.stack.stage("infer").kill()
    flow.start_stages(["infer"], ERASESTREAM_INFERENCE__DEADLINE="PT5M")
    stopped = zygotes_of(flow, "infer")
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        tally = Tally(flow, keeper="rebalance-a", forgetter="rebalance-b", count=UPLOADS)
        flow.stack.start_stage("infer", name="infer-2", ERASESTREAM_STAGE__INSTANCE="2")
        flow.wait_for("infer-2", "ready")
        eventually("its share is served", lambda: tally.delivered().total() >= 1)
        assert tally.delivered().total() < UPLOADS, "nothing waited for the first worker"
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        flow.stack.stage("infer-2").kill()
    eventually("all results", lambda: tally.delivered().keys() == tally.ids, deadline_s=120)
    assert set(tally.delivered().values()) == {1}
    eventually("all is acknowledged", lambda: committed(flow) == ends(flow))
    assert flow.stack.stage("infer").process_id

"""A stack with one lane and one inference worker: two children and a tiny model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from erasestream.pipeline.devstack.kafka.java_launcher import SHORT_LIVED
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import LaneSettings
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.catalog.topic_names import cutouts_of
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from tests.bench.running_pipeline import SHOP, provisioned_servers, wait_ready
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

PARTITIONS = 4
CHILDREN = 2
SMALL_S = 10.0
DEADLINE_S = 3 * SMALL_S
"""For a small image, and for the largest, within the stage."""


@contextmanager
def inference_servers(folder: Path) -> Iterator[Stack]:
    """Run the servers, without the worker."""
    build_tiny_model(folder / "models")
    lanes = {SHOP: LaneSettings(partitions=PARTITIONS, sealing=Sealing.ACCEPTED)}
    with provisioned_servers(
        folder,
        models=folder / "models",
        model="tiny",
        lanes=lanes,
        java_options=SHORT_LIVED,
    ) as stack:
        yield stack


def start_worker(stack: Stack) -> None:
    """Start the inference worker and wait until it is ready."""
    stack.start_stage(
        "infer",
        ERASESTREAM_INFERENCE__CHILDREN=str(CHILDREN),
        ERASESTREAM_INFERENCE__DEADLINE=f"PT{SMALL_S:.0f}S",
    )
    wait_ready(stack, "infer")


@contextmanager
def cutouts_consumer(stack: Stack, group: str) -> Iterator[Consumer]:
    """Open a bare consumer of all cut-outs, from the first one on."""
    settings = Connection(cluster=stack.cluster, role=ADMIN).settings(ClientErrorState())
    consumer = Consumer(settings | {"group.id": group, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(cutouts_of(SHOP), n, 0) for n in range(PARTITIONS)])
        yield consumer
    finally:
        consumer.close()

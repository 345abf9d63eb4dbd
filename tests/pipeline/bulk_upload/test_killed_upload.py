"""A bulk upload that is killed repeats nothing that was acknowledged."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.errors import ClientErrorState
from tests.kafka_fixture import PARTITIONS, KafkaFixture
from tests.paths import ROOT
from tests.pipeline.bulk_upload.manifests import manifest_of

TIMEOUT_S = 300


def appended_ids(kafka: KafkaFixture, lane: Lane) -> Iterator[str]:
    """Yield the id of every upload in the lane's topic."""
    settings = kafka.connection(ADMIN).settings(ClientErrorState(), group_id="test")
    topic = uploads_of(lane)
    consumer = Consumer(settings)
    try:
        for partition in range(PARTITIONS):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), 20.0)
            if not end:
                continue
            consumer.assign([TopicPartition(topic, partition, 0)])
            for _ in range(end):
                message = consumer.poll(20.0)
                assert message is not None
                assert message.error() is None
                yield dict(message.headers() or [])["ce_id"].decode()  # type: ignore[union-attr]
    finally:
        consumer.close()


SCRIPT = """
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from erasestream.pipeline.bulk_upload.checkpoint import Checkpoint
from erasestream.pipeline.bulk_upload.uploader import open_checkpoint, upload_manifest
from erasestream.schemas.ids import Lane
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.client.upload_producer import UploadProducer

server, identities, lane, manifest, path, goal = sys.argv[1:]
cluster = Cluster(bootstrap_servers=(server,), identities=Path(identities))
opened = open_checkpoint(
    Path(manifest), Path(path), lane=Lane(lane), resume=True, now=lambda: datetime.now(UTC)
)
record, recorded = Checkpoint.record, len(opened.acknowledged)

def record_and_die(checkpoint, number):
    global recorded
    record(checkpoint, number)
    recorded += 1
    if recorded >= int(goal):
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.record = record_and_die
with opened as checkpoint, UploadProducer(cluster, Lane(lane), sealed=False) as producer:
    print(upload_manifest(Path(manifest), uploader=producer, checkpoint=checkpoint).acknowledged)
"""


def test_kills_in_the_middle_repeat_nothing_that_was_acknowledged(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    rows = 3000
    manifest, path = manifest_of(tmp_path, rows), tmp_path / "c"
    arguments = [kafka.broker.bootstrap, str(kafka.identities), lane, str(manifest), str(path)]
    command = [sys.executable, "-c", SCRIPT, *arguments]

    known: set[int] = set()
    for goal in (rows // 4, rows // 2):
        goes = [*command, str(goal)]
        killed = subprocess.run(goes, cwd=ROOT, check=False, timeout=TIMEOUT_S)
        assert killed.returncode == -signal.SIGKILL
        known |= {int(line) for line in path.read_bytes().split(b"\n")[1:-1]}
    assert rows // 2 <= len(known) < rows
    never = str(rows + 1)
    last = subprocess.run([*command, never], cwd=ROOT, capture_output=True, check=True, text=True)
    assert int(last.stdout) == rows - len(known)
    ids = list(appended_ids(kafka, lane))
    assert len(set(ids)) == rows
    recorded = [int(line) for line in path.read_bytes().split(b"\n")[1:-1]]
    assert sorted(recorded) == list(range(1, rows + 1)), "a row was acknowledged twice"

"""kill -9 of the sink, hundreds of times: every retained record is one object, and opens."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import AccountId, GrantId, UploadId, new_upload_id
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.retained_pictures import RetainedObject, Selection
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.flow.waiting import eventually
from tests.kept_pictures import bytes_of, kept_picture

KILLS = 300
ACCOUNT = AccountId("kept-through-kills")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_sink_that_is_killed_all_the_time_stores_each_picture_once(
    fragile: PipelineHarness,
) -> None:
    """No object is written twice: each is as old at the end as when it was first listed."""
    dice, ends = random.Random(4711), threading.Event()
    grant = fragile.grant(ACCOUNT).grant
    assert grant
    kept = Selection(frozenset({grant}))
    reader = fragile.reader()
    sizes: dict[UploadId, int] = {}
    first_seen: dict[str, datetime] = {}

    def seen() -> dict[str, RetainedObject]:
        return {each.name: each for each in reader.list() if kept.includes(each)}

    with _writer(fragile) as writes:
        for _ in range(KILLS):
            for _ in range(dice.randint(1, 20)):
                event = _picture(grant, dice.randint(1, 300_000))
                sizes[event.id] = len(event.data)
                at = Partition(RETAINED, dice.randrange(fragile.settings.kafka.retained_partitions))
                writes.write(at, b"key", to_wire(event, source="/router"))
            ends.wait(dice.uniform(0, 0.5))  # a kill at any time
            fragile.stack.stage("sink").kill()
            for name, each in seen().items():
                assert first_seen.setdefault(name, each.stored) == each.stored
            fragile.restart("sink")
    eventually("all are stored", lambda: len(seen()) >= len(sizes))
    fragile.wait_until_drained()
    objects = seen()
    assert {each.upload_id for each in objects.values()} == sizes.keys()
    assert len(objects) == len(sizes)
    assert all(objects[name].stored == stored for name, stored in first_seen.items())
    _assert_each_opens(reader, kept, sizes)


def _assert_each_opens(reader: RetainedReader, kept: Selection, sizes: dict[UploadId, int]) -> None:
    pictures = reader.pictures(kept)
    for each in pictures:
        assert each.data == bytes_of(each.upload_id, sizes[each.upload_id])
    assert pictures.counts == {"opened": len(sizes)}


@contextmanager
def _writer(flow: PipelineHarness) -> Iterator[AcknowledgedWriter]:
    """Write to `retained` as the router does."""
    connection = Connection(cluster=flow.settings.cluster, role=ROUTER)
    with closing(AcknowledgedWriter(connection=connection, timeout_s=60)) as writes:
        yield writes


def _picture(grant: GrantId, size: int) -> Retained:
    upload = new_upload_id(round(time.time() * 1000), random.randbytes(10))
    return kept_picture(SHOP, ACCOUNT, grant, upload, size)

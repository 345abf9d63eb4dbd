"""The broker refuses a result: the stage ends, and after a restart nothing is lost or skipped.

Sends issued together can leave a gap: when record k fails, the broker may still append k+1.
So each send waits for the one before it; these tests check that.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from erasestream.pipeline.runtime.runner import EX_SOFTWARE
from erasestream.topics.catalog.acl import Operation, Resource, Right
from erasestream.topics.catalog.roles import INFERENCE
from erasestream.topics.catalog.topic_names import cutouts_of
from erasestream.topics.kafka.admin import Admin
from tests.flow.pictures import noise, photo
from tests.flow.pipeline_harness import BULK, PipelineHarness
from tests.flow.revoked_rights import without_rights
from tests.flow.topic_reader import event_of
from tests.flow.waiting import eventually

CUTOUTS = cutouts_of(BULK)
SMALL_BYTES = 8_000
"""More than the cut-out of a small photo, less than that of noise."""


@contextmanager
def small_records_only(admin: Admin) -> Iterator[None]:
    """Lower the size limit of the lane's cut-outs topic for the duration of the block."""
    name = "max.message.bytes"
    resource = ConfigResource(ConfigResource.Type.TOPIC, CUTOUTS)
    with admin.use() as client:
        (described,) = client.describe_configs([resource]).values()
        declared = described.result(20)[name].value

    def set_to(value: str | None) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        changed = ConfigResource(ConfigResource.Type.TOPIC, CUTOUTS, incremental_configs=[entry])
        with admin.use() as client:
            (answer,) = client.incremental_alter_configs([changed]).values()
            answer.result(20)

    set_to(str(SMALL_BYTES))
    try:
        yield
    finally:
        set_to(declared)


def upload_all(flow: PipelineHarness, account: str, large: set[int]) -> list[int]:
    """Upload twelve images, those of `large` with a large result, and return their offsets."""
    images = [noise() if n in large else photo() for n in range(12)]
    return [flow.upload(account, image=image, lane=BULK).offset for image in images]


def sources(flow: PipelineHarness) -> list[int]:
    """Return the upload offset of each record in the cut-outs topic, in order."""
    records = flow.records(CUTOUTS)
    assert [record.at.number for record in records] == [0] * len(records)
    return [event_of(record).position.offset for record in records]


def delivered(flow: PipelineHarness) -> Counter[int]:
    """Count the results of each upload of the lane, by its offset."""
    return Counter(event.position.offset for event in flow.result_events(BULK))


def assert_nothing_lost(flow: PipelineHarness, last: int) -> None:
    """Assert exactly one result per upload of the lane, and cut-outs in upload order."""
    everything = Counter(range(last + 1))
    eventually("all results", lambda: delivered(flow).keys() >= everything.keys())
    assert delivered(flow) == everything
    first_appearances = list(dict.fromkeys(sources(flow)))
    assert first_appearances == list(everything)


@pytest.mark.parametrize(("large", "written"), [({0}, 0), ({5, 9}, 5)], ids=["first", "middle"])
def test_refused_record_is_not_skipped(
    fragile: PipelineHarness, large: set[int], written: int
) -> None:
    """Earlier records are written, later ones only after the restart."""
    flow, admin = fragile, Admin(fragile.stack.admin())
    flow.stack.stop_stage("infer")
    before = sources(flow)
    offsets = upload_all(flow, "refused", large)
    with small_records_only(admin):
        flow.stack.start_stage("infer")
        assert flow.exit_code("infer") == EX_SOFTWARE
        assert sources(flow) == [*before, *offsets[:written]]
    flow.restart("infer")
    assert_nothing_lost(flow, offsets[-1])


def test_right_revoked_while_working(fragile: PipelineHarness) -> None:
    """A stage that may no longer write ends, and loses no upload that it had read."""
    flow, admin = fragile, Admin(fragile.stack.admin())
    right = Right(INFERENCE, Operation.WRITE, Resource.TOPIC, CUTOUTS)
    with without_rights(admin, [right]):
        offsets = upload_all(flow, "withdrawn", set())
        assert flow.exit_code("infer") == EX_SOFTWARE
    flow.restart("infer")
    assert_nothing_lost(flow, offsets[-1])

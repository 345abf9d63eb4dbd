"""The broker refuses a result: the stage ends, and after a restart nothing is lost or skipped.

Sends that are issued together can leave a gap: when record k fails, k+1 may still be
appended.  That is why each waits for the one before it, and what is tried here.
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
from erasestream.topics.kafka.acl_bindings import binding_of, exactly
from erasestream.topics.kafka.admin import Admin
from tests.flow.pictures import noise, photo
from tests.flow.pipeline_harness import BULK, PipelineHarness
from tests.flow.topic_reader import event_of
from tests.flow.waiting import eventually

CUTOUTS = cutouts_of(BULK)
SMALL_BYTES = 8_000
"""Between the cut-out of a small photo and that of noise."""


@contextmanager
def small_records_only(admin: Admin) -> Iterator[None]:
    """The broker takes no large record in the cut-outs of the lane for a while."""
    name = "max.message.bytes"
    resource = ConfigResource(ConfigResource.Type.TOPIC, CUTOUTS)
    (described,) = admin.client.describe_configs([resource]).values()
    declared = described.result(20)[name].value

    def set_to(value: str | None) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        changed = ConfigResource(ConfigResource.Type.TOPIC, CUTOUTS, incremental_configs=[entry])
        (answer,) = admin.client.incremental_alter_configs([changed]).values()
        answer.result(20)

    set_to(str(SMALL_BYTES))
    try:
        yield
    finally:
        set_to(declared)


@contextmanager
def without_right(admin: Admin, right: Right) -> Iterator[None]:
    """A right is taken away for a while."""
    binding = binding_of(right)
    (deleted,) = admin.client.delete_acls([exactly(binding)]).values()
    assert deleted.result(20)
    try:
        yield
    finally:
        (created,) = admin.client.create_acls([binding]).values()
        created.result(20)


def upload_all(flow: PipelineHarness, account: str, large: set[int]) -> list[int]:
    """Twelve uploads to the lane's one partition, some with a large result; their offsets."""
    images = [noise() if n in large else photo() for n in range(12)]
    return [flow.upload(account, image=image, lane=BULK).offset for image in images]


def sources(flow: PipelineHarness) -> list[int]:
    """Of which upload each record of the cut-outs is, in their order."""
    records = flow.records(CUTOUTS)
    assert [record.at.number for record in records] == [0] * len(records)
    return [event_of(record).position.offset for record in records]


def delivered(flow: PipelineHarness) -> Counter[int]:
    """How many results each upload of the lane has."""
    return Counter(event_of(record).position.offset for record in flow.results(BULK))


def assert_nothing_lost(flow: PipelineHarness, last: int) -> None:
    """Exactly one result for each upload of the lane, and the cut-outs in their order."""
    everything = Counter(range(last + 1))
    eventually("all results", lambda: delivered(flow).keys() >= everything.keys())
    assert delivered(flow) == everything
    first_appearances = list(dict.fromkeys(sources(flow)))
    assert first_appearances == list(everything)


@pytest.mark.parametrize(("large", "written"), [({0}, 0), ({5, 9}, 5)], ids=["first", "middle"])
def test_refused_record_is_not_skipped(
    fragile: PipelineHarness, large: set[int], written: int
) -> None:
    """What comes before the refused record is written, nothing after it, and later all is."""
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


def test_right_withdrawn_at_work(fragile: PipelineHarness) -> None:
    """A stage that may not write any more ends, and loses nothing of what it had read."""
    flow, admin = fragile, Admin(fragile.stack.admin())
    right = Right(INFERENCE, Operation.WRITE, Resource.TOPIC, CUTOUTS)
    with without_right(admin, right):
        offsets = upload_all(flow, "withdrawn", set())
        assert flow.exit_code("infer") == EX_SOFTWARE
    flow.restart("infer")
    assert_nothing_lost(flow, offsets[-1])

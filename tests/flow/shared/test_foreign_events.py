"""Uploads as other CloudEvents libraries write them."""

from collections.abc import Mapping

import pytest

from erasestream.schemas.errors import SENTENCES, Code
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import UploadId
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import uploads_of
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.flow.raw_client import RawClient, RecordPosition, upload_record
from tests.flow.upload_batch import opt_in
from tests.flow.waiting import eventually

ACCOUNT = "foreign-events"


def answer_of(flow: PipelineHarness, account: str, **headers: bytes | None) -> Cutout | Failure:
    """Send an upload with these headers, and return its result."""
    client = RawClient(flow.stack.cluster, lane_role(SHOP, LaneRole.PRODUCER))
    record = upload_record(photo(), account).with_headers(**headers)
    sent = client.send(uploads_of(SHOP), record, partition=0)
    assert isinstance(sent, RecordPosition), sent

    def result() -> Cutout | Failure | None:
        return next((event for event in flow.result_events() if at(event) == sent), None)

    def at(event: Cutout | Failure) -> RecordPosition:
        return RecordPosition(event.position.partition, event.position.offset)

    return eventually("the result", result)


@pytest.mark.parametrize("text", ["order 4711/../front", "7", "\u00e9" * 255])
def test_an_upload_is_answered_under_its_id(flow: PipelineHarness, text: str) -> None:
    """Without a time, and with parameters of the content type."""
    more: Mapping[str, bytes | None] = {"content-type": b"image/png; charset=binary"}
    event = answer_of(flow, "foreign", ce_id=text.encode(), ce_time=None, **more)
    assert isinstance(event, Cutout), event
    assert event.id == UploadId(text)


def test_an_upload_of_an_account_that_opted_in_is_kept_whatever_its_id(
    flow: PipelineHarness,
) -> None:
    """Both pictures, each under a name without that id; the sink goes on."""
    opt_in(flow, ACCOUNT)
    flow.wait_until_drained()
    before = len(flow.stored())
    event = answer_of(flow, ACCOUNT, ce_id=b"../order 4711", ce_time=None)
    eventually("both are retained", lambda: flow.in_retained().count(event.id) == 2)
    flow.wait_until_drained()
    assert len(flow.stored()) == before + 2


def test_a_failed_result_names_the_missing_headers(flow: PipelineHarness) -> None:
    event = answer_of(flow, "foreign", **{"ce_type": None, "ce_id": None, "content-type": None})
    assert isinstance(event, Failure)
    missing = "(missing: ce_type, ce_id, content-type)"
    assert event.sentence == f"{SENTENCES[Code.INVALID_EVENT]} {missing}"

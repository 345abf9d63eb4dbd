"""A gateway without its broker, or killed: requests end in time, retries are not sent again."""

from collections.abc import Iterator

import pytest

from erasestream.schemas.ids import AccountId, image_key
from erasestream.topics.catalog.topic_names import marks_of, uploads_of
from erasestream.topics.client.upload_builder import idempotent_id
from tests.bench.gateway_stack import api_key
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import BULK, STAGES, PipelineHarness
from tests.flow.shared.test_gateway import Client, error_of
from tests.flow.topic_reader import ids_in
from tests.flow.waiting import eventually

KEY = "once"
ACCOUNT = AccountId("acct")
"""That of `api_key`."""


@pytest.fixture
def client(fragile: PipelineHarness) -> Iterator[Client]:
    """Yield a client of a gateway that lets requests wait for much less time than the client."""
    fragile.start_stages(("gateway",), ERASESTREAM_GATEWAY__RESULT_WAIT="PT8S")
    try:
        yield Client(fragile, api_key(fragile.stack, lane=BULK))
    finally:
        fragile.stack.stop_stage("gateway")


def test_a_request_ends_in_time_while_the_broker_is_silent(
    fragile: PipelineHarness, client: Client
) -> None:
    """Its producer would wait longer for the acknowledgement than the client for its answer."""
    fragile.stack.broker.pause()
    try:
        answer = client.cut_out()
    finally:
        fragile.stack.broker.resume()
    assert error_of(answer) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0

    def is_answered() -> bool:
        fragile.restart_ended((*STAGES, "gateway"))
        return client.cut_out().ok

    eventually("the next one is answered", is_answered, poll_s=0.5)


def test_a_retry_at_a_restarted_gateway_is_not_sent_again(
    fragile: PipelineHarness, client: Client
) -> None:
    """The first try has no result yet; once it has, the retry gets it."""
    stack = fragile.stack
    upload = idempotent_id(BULK, ACCOUNT, KEY)
    mark = image_key(BULK, ACCOUNT, upload).encode()
    files = {"image_file": photo()}

    def ask() -> tuple[int, str]:
        answer = client.post(files=files, headers={"Idempotency-Key": KEY})
        return (200, "") if answer.ok else error_of(answer)

    stack.stop_stage("infer")
    assert ask() == (504, "result_pending")
    eventually("the mark", lambda: mark in {each.key for each in fragile.records(marks_of(BULK))})
    stack.stage("gateway").kill()
    eventually("it has ended", lambda: stack.stage("gateway").process_id is None)
    fragile.start_stages(("gateway",))
    eventually("the key is known", lambda: client.get("/v2/account").ok)
    assert ask() == (409, "in_progress")
    fragile.start_stages(("infer",))
    eventually("the cut-out", lambda: ask() == (200, ""), poll_s=0.5)
    assert ids_in(fragile.records(uploads_of(BULK))).count(upload) == 1

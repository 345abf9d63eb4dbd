"""A gateway whose broker is silent, or that ends: requests are answered, retries not sent again."""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPResponse

import pytest
import requests

from erasestream.pipeline.runtime.runner import EX_OK
from erasestream.schemas.ids import AccountId, image_key
from erasestream.topics.catalog.topic_names import marks_of, uploads_of
from erasestream.topics.client.upload_builder import idempotent_id
from tests.bench.gateway_stack import api_key, server_of
from tests.bench.https_clients import Server, upload_request
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import BULK, STAGES, PipelineHarness
from tests.flow.shared.test_gateway import Client, error_of
from tests.flow.topic_reader import ids_in
from tests.flow.waiting import eventually

KEY = "once"
ACCOUNT = AccountId("acct")
"""That of `api_key`."""


@contextmanager
def serving(fragile: PipelineHarness, **environment: str) -> Iterator[Client]:
    """Run a gateway, and yield a client of it."""
    fragile.start_stages(("gateway",), **environment)
    try:
        yield Client(fragile, api_key(fragile.stack, lane=BULK))
    finally:
        fragile.stack.stop_stage("gateway")


def test_a_request_ends_in_time_while_the_broker_is_silent(fragile: PipelineHarness) -> None:
    """Its producer would wait longer for the acknowledgement than the client for its answer."""
    with serving(fragile, ERASESTREAM_GATEWAY__RESULT_WAIT="PT8S") as client:
        fragile.stack.broker.pause()
        try:
            answer = client.cut_out()
        finally:
            fragile.stack.broker.resume()
        assert error_of(answer) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0

        def is_answered() -> bool:
            fragile.restart_ended((*STAGES, "gateway"))
            with suppress(requests.ConnectionError):  # it may end only now
                return client.cut_out().ok
            return False

        eventually("the next one is answered", is_answered, poll_s=0.5)


def test_a_retry_at_a_restarted_gateway_is_not_sent_again(fragile: PipelineHarness) -> None:
    """The first try has no result yet; once it has, the retry gets it."""
    stack = fragile.stack
    upload = idempotent_id(BULK, ACCOUNT, KEY)
    mark = image_key(BULK, ACCOUNT, upload).encode()
    files = {"image_file": photo()}
    with serving(fragile) as client, ThreadPoolExecutor(1) as threads:

        def ask() -> tuple[int, str]:
            answer = client.post(files=files, headers={"Idempotency-Key": KEY})
            return (200, "") if answer.ok else error_of(answer)

        def is_marked() -> bool:
            return mark in {record.key for record in fragile.records(marks_of(BULK))}

        stack.stop_stage("infer")
        first = threads.submit(ask)
        eventually("the mark", is_marked, poll_s=0.2)
        stack.stage("gateway").kill()
        with pytest.raises(requests.ConnectionError):
            first.result()
        fragile.start_stages(("gateway",))
        eventually("the key is known", lambda: client.get("/v2/account").ok)
        assert ask() == (409, "in_progress")
        fragile.start_stages(("infer",))
        eventually("the cut-out", lambda: ask() == (200, ""), poll_s=0.5)
    assert ids_in(fragile.records(uploads_of(BULK))).count(upload) == 1


def test_sigterm_answers_what_is_in_flight_and_refuses_what_comes_later(
    fragile: PipelineHarness,
) -> None:
    """A request counts from its head on; the gateway ends once it is answered, by itself."""
    image = photo()
    with serving(fragile) as client:
        key = f"{client.session.headers['x-api-key']}"
        headers = {"x-api-key": key, "Idempotency-Key": "at SIGTERM"}
        first = client.post(files={"image_file": image}, headers=headers)
        assert first.ok, first.text
        headers["Expect"] = "100-continue"
        request = upload_request("/v2", "image_file", image, headers=headers)
        head, blank, body = request.partition(b"\r\n\r\n")
        server = server_of(fragile.stack)
        assert server.context is not None
        with (
            socket.create_connection(server[:2]) as plain,
            server.context.wrap_socket(plain, server_hostname=server.host) as secured,
        ):
            secured.sendall(head + blank)
            assert secured.recv(1024).startswith(b"HTTP/1.1 100"), "it waits for the body"
            fragile.stack.stage("gateway").send(signal.SIGTERM)
            eventually("no connection is accepted any more", lambda: is_refused(server))
            secured.sendall(body)
            response = HTTPResponse(secured)
            response.begin()
            assert (response.status, response.read()) == (200, first.content)
        assert fragile.exit_code("gateway") == EX_OK
        (ended,) = fragile.lines("gateway", "ended")
        assert "reason" not in ended, "it was not cut off"


def is_refused(server: Server) -> bool:
    """Return whether the server accepts no connection."""
    try:
        socket.create_connection(server[:2]).close()
    except ConnectionRefusedError:
        return True
    return False

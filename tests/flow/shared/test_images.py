"""`/v2/images` at two gateways of one lane: each answers for the images of both."""

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import pytest
import requests

from erasestream.pipeline.devstack.stack_files import GATEWAY_HOST
from erasestream.schemas.codec.cloudevents import from_wire, to_wire, type_of
from erasestream.schemas.error_codes import Code
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.schemas.events.image_index import ResultIndexed
from erasestream.schemas.events.ledger import UploadErasureRequested
from erasestream.schemas.ids import AccountId, UploadId, image_key, owner_key
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import index_of, ledger_of
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import BULK, PipelineHarness
from tests.flow.shared.test_gateway import Client, error_of, issue, opened
from tests.flow.waiting import eventually

ACCOUNT, OTHER = AccountId("images-account"), AccountId("images-other")
ONE, TWO = "gateway", "gateway-2"
DAY = timedelta(hours=24)


class Gateways(NamedTuple):
    """Two gateways, and clients of one account at each."""

    flow: PipelineHarness
    second_port: int
    keys: dict[str, str]

    def client(self, name: str, key: str = "image") -> Client:
        url = None if name == ONE else f"https://{GATEWAY_HOST}:{self.second_port}"
        return Client(self.flow, self.keys[key], url)

    def start(self, name: str) -> None:
        environment = {}
        if name == TWO:
            environment["ERASESTREAM_GATEWAY__LISTEN_PORT"] = f"{self.second_port}"
        self.flow.stack.start_stage("gateway", name=name, **environment)

    def wait_until_ready(self, name: str) -> None:
        self.flow.wait_for_event(name, "ready")
        for key in self.keys:
            eventually("the key is known", lambda key=key: self._knows(name, key))

    def _knows(self, name: str, key: str) -> bool:
        return self.client(name, key).get("/v2/account").ok


@pytest.fixture(scope="module")
def gateways(flow: PipelineHarness) -> Iterator[Gateways]:
    with socket.create_server((GATEWAY_HOST, 0)) as probe:
        port = probe.getsockname()[1]
    keys = {
        "image": issue(flow, ACCOUNT, CredentialKind.IMAGE).text,
        "owner": issue(flow, ACCOUNT, CredentialKind.OWNER).text,
        "other": issue(flow, OTHER, CredentialKind.OWNER).text,
    }
    gateways = Gateways(flow, port, keys)
    for name in (ONE, TWO):
        gateways.start(name)
    for name in (ONE, TWO):
        gateways.wait_until_ready(name)
    yield gateways
    for name in (ONE, TWO):
        flow.stack.stop_stage(name)


@pytest.fixture
def one(gateways: Gateways) -> Client:
    return gateways.client(ONE)


@pytest.fixture
def two(gateways: Gateways) -> Client:
    return gateways.client(TWO)


def send(client: Client, image: bytes | None = None, **headers: str) -> requests.Response:
    files = {"image_file": photo() if image is None else image}
    return client.post("/v2/images", files=files, headers=headers)


def state_at(client: Client, location: str) -> str:
    response = client.get(location)
    assert response.ok, response.text
    return str(response.json()["image"]["state"])


def until_done(client: Client, location: str, state: str = "done") -> None:
    eventually("the image is done", lambda: state_at(client, location) == state, poll_s=0.2)


def deadline_of(response: requests.Response) -> timedelta:
    """Return how long the image of an answer can still be opened at most."""
    deadline = parsedate_to_datetime(response.headers["Retention-Deadline"])
    return deadline - datetime.now(UTC)


def test_an_image_is_accepted_by_one_gateway_and_fetched_from_the_other(
    one: Client, two: Client
) -> None:
    sent = send(one, Prefer="respond-async")
    assert sent.status_code == 202, sent.text
    assert sent.headers["Preference-Applied"] == "respond-async"
    location = sent.headers["Location"]
    described = sent.json()["image"]
    assert location == f"/v2/images/{described['id']}"
    assert (described["state"], described["retained"]) == ("pending", False)
    assert two.get(location).ok, "known before it has a result"
    until_done(two, location)
    for client in (one, two):
        fetched = client.get(location, Accept="image/*")
        assert fetched.ok, fetched.text
        assert fetched.headers["Content-Type"] == "image/png"
        assert opened(fetched.content).size == opened(photo()).size
        for answer in (sent, client.get(location), fetched):
            assert timedelta(hours=21) < deadline_of(answer) <= DAY


def test_a_client_that_prefers_to_wait_gets_the_image(one: Client, two: Client) -> None:
    sent = send(one, Prefer="wait=60", **{"X-Never-Retain": "1"})
    assert sent.status_code == 200, sent.text
    assert sent.headers["Preference-Applied"] == "wait=60"
    assert opened(sent.content).size == opened(photo()).size
    location = sent.headers["Location"]
    until_done(two, location)
    assert two.get(location, Accept="image/png").content == sent.content


def test_answers_of_other_contracts_tell_the_deadline(one: Client) -> None:
    for path in ("/v2", "/v1.0/removebg"):
        response = one.post(path, files={"image_file": photo()})
        assert timedelta(hours=21) < deadline_of(response) <= DAY


def test_a_failed_image_has_its_code(one: Client, two: Client) -> None:
    location = send(one, photo()[:500]).headers["Location"]
    until_done(two, location, "failed")
    described = two.get(location).json()["image"]
    assert described["error"]["code"] == Code.TRUNCATED
    fetched = two.get(location, Accept="image/*")
    assert error_of(fetched) == (400, Code.TRUNCATED)
    waited = send(one, photo()[:500], Prefer="wait=60")
    assert error_of(waited) == (400, Code.TRUNCATED)
    assert waited.headers["Preference-Applied"] == "wait=60"
    assert state_at(two, waited.headers["Location"]) == "failed"
    for answer in (fetched, waited):
        assert timedelta(hours=21) < deadline_of(answer) <= DAY


def test_another_accounts_image_does_not_exist(gateways: Gateways, one: Client) -> None:
    location = send(one).headers["Location"]
    other = gateways.client(TWO, "other")
    for found in (
        other.get(location),
        other.get(location, Accept="image/*"),
        other.delete(location),
        one.get("/v2/images/no-such-image"),
        one.get("/v2/images/%00"),
    ):
        assert error_of(found) == (404, "no_such_image")
    assert one.get(location).ok


def test_a_deleted_image_is_hidden_on_every_gateway_at_once(
    gateways: Gateways, one: Client, two: Client
) -> None:
    """By an owner's key only; of an image that was taken twice, both answers are gone."""
    image, wish = photo(), {"Idempotency-Key": f"deleted-{secrets.token_hex(4)}"}
    location = send(one, image, Prefer="wait=60", **wish).headers["Location"]
    assert error_of(two.delete(location)) == (403, "forbidden")
    until_done(two, location)
    owner = gateways.client(ONE, "owner")
    deleted = owner.delete(location)
    assert deleted.ok, deleted.text
    described = deleted.json()["image"]
    assert (described["state"], described["erasure"]) == ("deleted", None)
    assert described["forgotten_at"] == described["retention_deadline"]
    for client in (two, one):
        gone = client.get(location)
        assert error_of(gone) == (410, "image_deleted")
        assert timedelta(hours=21) < deadline_of(gone) <= DAY
        assert error_of(client.get(location, Accept="image/*")) == (410, "image_deleted")
        assert error_of(send(client, image, **wish)) == (410, "image_deleted")
    assert owner.delete(location).ok


def test_what_is_retained_of_a_deleted_image_is_to_be_erased(gateways: Gateways) -> None:
    """An image that the opt-in keeps has no deadline until its owner deletes it.

    However often that is: each request stays in the ledger.
    """
    flow, account = gateways.flow, AccountId("images-kept")
    owner = Client(flow, issue(flow, account, CredentialKind.OWNER).text)
    eventually("the key is known", lambda: owner.get("/v2/account").ok)
    flow.grant(account, lane=BULK)

    def is_retained() -> str | None:
        """Return where an image is that was uploaded surely after the grant."""
        sent = send(owner, Prefer="wait=60")
        assert sent.ok, sent.text
        location = str(sent.headers["Location"])
        return location if sent.headers["Retention-Deadline"] == "opt-in" else None

    location = eventually("an image is retained", is_retained, poll_s=0.5)
    described = owner.get(location).json()["image"]
    assert (described["retained"], described["retention_deadline"]) == (True, None)
    for _ in range(2):
        deleted = owner.delete(location)
        assert deleted.ok, deleted.text
        assert deleted.json()["image"]["erasure"] == "requested"
        assert timedelta(hours=21) < deadline_of(deleted) <= DAY
    asked = [
        event
        for record in flow.records(ledger_of(BULK))
        if type_of(record.headers) is UploadErasureRequested
        and (event := from_wire(UploadErasureRequested, record.headers, record.value))
    ]
    assert [event.upload for event in asked].count(UploadId(location.rpartition("/")[2])) == 1


def test_after_its_time_an_image_is_gone_with_the_time(
    gateways: Gateways, one: Client, two: Client
) -> None:
    """Its index entry, which outlives it, is all that is left."""
    upload = UploadId(f"gone-{secrets.token_hex(4)}")
    uploaded_at = datetime.now(UTC) - timedelta(hours=30)
    entry = ResultIndexed(
        id=image_key(BULK, ACCOUNT, upload),
        owner=owner_key(BULK, ACCOUNT),
        offset=0,
        uploaded_at=uploaded_at,
    )
    connection = Connection(cluster=gateways.flow.stack.cluster, role=ROUTER)
    writer = AcknowledgedWriter(connection=connection, timeout_s=30)
    writer.write(Partition(index_of(BULK), 0), b"", to_wire(entry, source="/test"))
    writer.close()
    location = f"/v2/images/{upload}"
    for client in (one, two):
        eventually("it is indexed", lambda c=client: c.get(location).status_code == 410)  # type: ignore[misc]
        for accept in ("*/*", "image/*"):
            answer = client.get(location, Accept=accept)
            assert error_of(answer) == (410, "image_expired")
            assert uploaded_at < datetime.now(UTC) + deadline_of(answer) <= uploaded_at + DAY


def test_a_killed_gateway_loses_no_image(gateways: Gateways, one: Client, two: Client) -> None:
    """Images that it accepted are answered by the other one, and by itself once it is back."""
    process = gateways.flow.stack.stage(ONE).process_id
    assert process is not None
    locations = [send(one).headers["Location"] for _ in range(4)]
    os.kill(process.pid, signal.SIGKILL)
    eventually("it has ended", lambda: gateways.flow.stack.stage(ONE).process_id is None)
    for location in locations:
        until_done(two, location)
        assert two.get(location, Accept="image/*").ok
    gateways.start(ONE)
    gateways.wait_until_ready(ONE)
    for location in locations:
        assert one.get(location, Accept="image/*").ok

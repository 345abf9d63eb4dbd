"""A real gateway on the shared stack, called by a real client over real TLS."""

import base64
import io
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import requests
from PIL import Image

from erasestream.pipeline.bootstrap.credentials import credential_table, open_credential_writer
from erasestream.schemas.error_codes import Code
from erasestream.schemas.events.consent import HEARTBEAT_KEY
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.schemas.ids import AccountId
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import credentials_of
from erasestream.topics.client.upload_builder import idempotent_id
from erasestream.topics.credentials.token import Token
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import BULK, PipelineHarness
from tests.flow.topic_reader import TopicReader
from tests.flow.waiting import eventually

ACCOUNT = "gateway-caller"
OTHER = "gateway-other"
TIMEOUT_S = 60


class Client:
    """One account's client, with a key."""

    def __init__(self, flow: PipelineHarness, key: str, url: str | None = None) -> None:
        self.url = url or flow.stack.gateway_url
        self.session = requests.Session()
        self.session.trust_env = False  # nor another authority than this
        self.session.verify = str(flow.stack.files.identities / "ca.crt")
        self.session.headers["x-api-key"] = key

    def post(self, path: str = "/v2", **arguments: object) -> requests.Response:
        return self.session.post(f"{self.url}{path}", timeout=TIMEOUT_S, **arguments)  # type: ignore[arg-type]

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.session.get(f"{self.url}{path}", timeout=TIMEOUT_S, headers=headers)

    def delete(self, path: str) -> requests.Response:
        return self.session.delete(f"{self.url}{path}", timeout=TIMEOUT_S)

    def cut_out(self, image: bytes | None = None, **options: str) -> requests.Response:
        files = {"image_file": ("photo.jpg", photo() if image is None else image)}
        return self.post(files=files, data=options)


def issue(flow: PipelineHarness, account: str, kind: CredentialKind) -> Token:
    with open_credential_writer(flow.settings, BULK) as writer:
        return writer.create(account, kind)


@pytest.fixture(scope="module")
def gateway(flow: PipelineHarness) -> Iterator[PipelineHarness]:
    flow.start_stages(("gateway",))
    yield flow
    flow.stack.stop_stage("gateway")


@pytest.fixture(scope="module")
def client(gateway: PipelineHarness) -> Client:
    client = Client(gateway, issue(gateway, ACCOUNT, CredentialKind.IMAGE).text)
    eventually("the key is known", lambda: client.get("/v2/account").ok)
    return client


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def error_of(response: requests.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error["status"] == response.status_code
    assert error["message"]
    assert error["request_id"] == response.headers["X-Request-Id"]
    return response.status_code, error["code"]


def test_a_file_is_answered_with_the_bytes_of_its_cutout(client: Client) -> None:
    response = client.cut_out(Format="WebP", CROP="no")  # names in any case
    assert response.ok, response.text
    assert response.headers["Content-Type"] == "image/webp"
    assert response.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-RateLimit-Limit"] == "500"
    assert 0 < int(response.headers["X-RateLimit-Remaining"]) <= 500
    assert opened(response.content).size == opened(photo()).size


@pytest.mark.parametrize("path", ["/v2", "/v1.0/removebg"])
def test_the_wish_never_to_be_retained_reaches_the_result(
    gateway: PipelineHarness, client: Client, path: str
) -> None:
    """The header becomes one of the upload and of its result, by any contract."""
    headers = {"X-Never-Retain": "1", "Idempotency-Key": f"never{path}"}
    files = {"image_file": photo()}
    response = client.post(path, files=files, headers=headers)
    assert response.ok, response.text
    upload = idempotent_id(BULK, AccountId(ACCOUNT), f"never{path}")
    assert gateway.cutout(upload, BULK).never_retain
    del headers["X-Never-Retain"]
    reused = client.post(path, files=files, headers=headers)
    assert reused.status_code in (400, 422), "another wish is another upload"


def test_json_is_answered_with_base64(client: Client) -> None:
    text = base64.b64encode(photo()).decode()
    response = client.post(json={"image_base64": text, "channels": "alpha"})
    assert response.ok, response.text
    answer = response.json()
    mask = opened(base64.b64decode(answer["mask"]))
    assert (mask.mode, mask.format, mask.size) == ("L", "PNG", (answer["width"], answer["height"]))
    legacy = client.post(json={"image": text, "format": "jpg", "channels": "rgba"}).json()
    assert legacy["mask"] == answer["mask"]


def test_a_retry_gets_the_result_of_the_first_try(client: Client) -> None:
    headers = {"Idempotency-Key": '"order-4711"'}
    files = {"image_file": photo()}
    first = client.post(files=files, headers=headers, data={"format": "webp"})
    assert first.ok, first.text
    again = client.post(
        files=files, headers={"Idempotency-Key": "order-4711"}, data={"format": "webp"}
    )
    assert (again.content, again.headers["Content-Type"]) == (first.content, "image/webp")
    assert error_of(client.post(files=files, headers=headers)) == (422, "idempotency_key_reused")
    for invalid in ("", '"', '""', "k" * 256):
        other = client.post(files=files, headers={"Idempotency-Key": invalid})
        assert error_of(other) == (400, "invalid_idempotency_key")


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"image_url": "https://example.com/a.png"}, 400, "several_images"),
        ({"formt": "png"}, 400, Code.INVALID_OPTIONS),
        ({"format": "gif"}, 400, Code.INVALID_OPTIONS),
        ({"crop": "maybe"}, 400, Code.INVALID_OPTIONS),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    client: Client, options: dict[str, str], status: int, code: str
) -> None:
    assert error_of(client.cut_out(**options)) == (status, code)


def test_requests_without_an_image_are_refused(client: Client) -> None:
    assert error_of(client.post(files={"other": b"x"})) == (400, "missing_image")
    assert error_of(client.post(json={"image_url": "https://example.com/a.png"})) == (
        400,
        "url_fetch_disabled",
    )
    assert error_of(client.post(data=b"pixels")) == (415, "unsupported_body")
    assert error_of(client.cut_out(b"GIF89a")) == (415, Code.UNSUPPORTED_FORMAT)
    assert error_of(client.cut_out(photo()[:500])) == (400, Code.TRUNCATED)
    assert error_of(client.get("/v2/nothing")) == (404, "no_such_path")
    assert error_of(client.get("/v2")) == (405, "method_not_allowed")


def test_bodies_above_the_limit_are_refused(client: Client) -> None:
    """By their length, by what has arrived, and by the size of the image in them."""
    large = bytes(50_000_000)
    assert error_of(client.cut_out(large)) == (413, Code.TOO_LARGE)
    kind = {"Content-Type": "application/json"}

    def chunks() -> Iterator[bytes]:
        yield from (large[:1_000_000] for _ in range(45))

    assert error_of(client.post(data=chunks(), headers=kind)) == (413, Code.TOO_LARGE)
    assert client.cut_out().ok


def test_a_key_is_needed(gateway: PipelineHarness, client: Client) -> None:
    assert error_of(Client(gateway, "").cut_out()) == (401, "missing_api_key")
    assert error_of(Client(gateway, "es_image_nobody").cut_out()) == (401, "invalid_api_key")
    assert Client(gateway, "").get("/v2/health").json() == {"status": "ok"}


def test_a_revoked_key_is_refused_at_once(gateway: PipelineHarness) -> None:
    token = issue(gateway, OTHER, CredentialKind.OWNER)
    client = Client(gateway, token.text)
    eventually("the key is known", lambda: client.get("/v2/account").ok)
    account = client.get("/v2/account").json()["account"]
    assert account == {"id": OTHER, "ai_training_data": "off"}
    with (
        credential_table(gateway.settings, BULK) as table,
        open_credential_writer(gateway.settings, BULK) as writer,
    ):
        writer.revoke(table.get(token.key_id))
    eventually("the key is refused", lambda: client.get("/v2/account").status_code == 401)


def test_the_last_use_of_a_key_is_recorded(gateway: PipelineHarness, client: Client) -> None:
    key_id = str(client.session.headers["x-api-key"]).split("_")[2]

    def is_recorded() -> bool:
        with credential_table(gateway.settings, BULK) as table:
            credential = table.get(key_id)
        return credential is not None and credential.used_on is not None

    eventually("the use is recorded", is_recorded)


def test_the_topic_of_keys_is_compacted_while_no_key_changes(gateway: PipelineHarness) -> None:
    """A segment rolls with the next record only: the gateway writes heartbeats."""
    role = lane_role(BULK, LaneRole.ACCOUNT)
    reader = TopicReader(gateway.stack.cluster, role, credentials_of(BULK), 1)
    with closing(reader):
        eventually(
            "a heartbeat", lambda: any(each.key == HEARTBEAT_KEY for each in reader.read_to_end())
        )


@pytest.mark.parametrize(
    ("kind", "head", "tail"),
    [
        ("application/json", b'{"image_base64": "', b'"}'),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="image_file"; filename="a"\r\n\r\n',
            b"\r\n--b--\r\n",
        ),
    ],
    ids=["json", "multipart"],
)
def test_no_image_reaches_a_file(
    gateway: PipelineHarness, client: Client, kind: str, head: bytes, tail: bytes
) -> None:
    """Not while it arrives either: the process has no unnamed file open, as spooling leaves."""
    process = gateway.stack.stage("gateway").process_id
    assert process is not None
    folder = Path(f"/proc/{process.pid}/fd")

    def files() -> set[str]:
        found = set[str]()
        for each in folder.iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found.add(str(each.readlink()))
        return {name for name in found if name.startswith("/") and "(deleted)" in name}

    def slowly() -> Iterator[bytes]:
        yield head
        for _ in range(20):
            yield b"A" * 1_000_000
            assert not files()
        yield tail

    response = client.post(data=slowly(), headers={"Content-Type": kind})
    assert error_of(response) == (415, Code.UNSUPPORTED_FORMAT)

"""remove.bg's contract: clients that others wrote, unchanged, and each field by itself.

The clients' address is fixed: they run where `api.remove.bg` leads to the gateway, whose
certificate of these tests has that name.
"""

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest
import requests

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.stack_files import GATEWAY, GATEWAY_HOST
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.schemas.image_formats import JPEG, PNG, sniff_content_type
from tests.clients.renamed_host import run_for_host
from tests.clients.tools import go_client, node_modules, python_packages
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import PipelineHarness
from tests.flow.shared.test_gateway import Client, issue, opened
from tests.flow.waiting import eventually
from tests.paths import ROOT

HOST = "api.remove.bg"
PROGRAMS = ROOT / "tests" / "clients"
DEADLINE_S = 300
BOX = ("Left", "Top", "Width", "Height")


@pytest.fixture(scope="module")
def client(flow: PipelineHarness) -> Iterator[Client]:
    files = flow.stack.files
    authority = CertificateAuthority.load(
        files.directory / "authority", now=lambda: datetime.now(UTC)
    )
    authority.issue_server(GATEWAY, files.identities, hosts=(GATEWAY_HOST, HOST))
    flow.start_stages(("gateway",))
    client = Client(flow, issue(flow, "removebg-caller", CredentialKind.IMAGE).text)
    eventually("the key is known", lambda: client.get("/v1.0/account").ok)
    yield client
    flow.stack.stop_stage("gateway")


class Program:
    """Runs programs for which remove.bg is the gateway, with a key and a photo."""

    def __init__(self, client: Client, flow: PipelineHarness, folder: Path) -> None:
        authority = str(flow.stack.files.identities / "ca.crt")
        url = urlsplit(client.url)
        self.folder = folder
        self.key = str(client.session.headers["x-api-key"])
        self.photo = folder / "photo.jpg"
        self.photo.write_bytes(photo())
        self._server = str(url.hostname), int(url.port or 0)
        self._environment = {
            "NODE_EXTRA_CA_CERTS": authority,
            "REQUESTS_CA_BUNDLE": authority,
            "CURL_CA_BUNDLE": authority,
            "SSL_CERT_FILE": authority,
            "PYTHONPATH": str(python_packages()),
            "no_proxy": HOST,
            "NO_PROXY": HOST,
        }

    def run(self, *command: str) -> str:
        done: subprocess.CompletedProcess[str] = run_for_host(
            HOST,
            self._server,
            command,
            environment=self._environment,
            folder=self.folder,
            timeout_s=DEADLINE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def written(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture
def program(client: Client, flow: PipelineHarness, tmp_path: Path) -> Program:
    return Program(client, flow, tmp_path)


def test_the_package_of_npm_works_unchanged(program: Program) -> None:
    (program.folder / "node_modules").symlink_to(node_modules())
    script = program.folder / "client.mjs"
    script.write_text((PROGRAMS / "removebg_client.mjs").read_text())
    done = json.loads(program.run("node", str(script), program.key, str(program.photo)))
    assert sniff_content_type(program.written("file.png")) == PNG
    sizes = int(done["file"]["resultWidth"]), int(done["file"]["resultHeight"])
    assert sizes == opened(program.photo.read_bytes()).size
    assert done["file"]["creditsCharged"] == "0"
    assert int(done["file"]["rateLimit"]) >= int(done["file"]["rateLimitRemaining"]) > 0
    assert sniff_content_type(base64.b64decode(done["base64"]["base64img"])) == JPEG
    assert done["refused"][0]["code"] == "url_fetch_disabled"
    assert "scale" in done["scaled"][0]["title"]
    assert done["stranger"][0]["code"] == "auth_failed"


def test_the_package_of_pypi_works_unchanged(program: Program) -> None:
    script = str(PROGRAMS / "removebg_client.py")
    shown = program.run(sys.executable, script, program.key, str(program.photo))
    assert shown.split() == ["400", "url_fetch_disabled"]
    assert sniff_content_type(program.written("photo.jpg_no_bg.png")) == JPEG
    assert sniff_content_type(program.written("base64.png")) == PNG


@pytest.mark.parametrize("path", ["/v1.0/removebg", "/v2"])
def test_programs_without_a_package_work_in_four_languages(program: Program, path: str) -> None:
    url, photo_of = f"https://{HOST}{path}", str(program.photo)
    options = [
        "-H",
        f"X-API-Key: {program.key}",
        "-F",
        f"image_file=@{photo_of}",
        "-F",
        "size=auto",
    ]
    program.run("curl", *options, "-f", "-sS", "-o", "curl.png", url)
    assert sniff_content_type(program.written("curl.png")) == PNG
    for name, command in {
        "requests": [sys.executable, str(PROGRAMS / "upload_requests.py")],
        "fetch": ["node", str(PROGRAMS / "upload_fetch.mjs")],
        "go": [str(go_client())],
    }.items():
        program.run(*command, url, program.key, photo_of, f"{name}.png")
        assert program.written(f"{name}.png") == program.written("curl.png"), name


def error_of(response: requests.Response) -> tuple[int, str]:
    (error,) = response.json()["errors"]
    assert error.keys() == {"title", "code", "detail"}
    assert response.headers["X-Request-Id"] in error["detail"]
    return response.status_code, error["code"]


def test_errors_have_the_contracts_shape_codes_and_statuses(
    client: Client, flow: PipelineHarness
) -> None:
    path = "/v1.0/removebg"
    image = {"image_file": photo()}
    assert error_of(Client(flow, "nobody").post(path, files=image)) == (403, "auth_failed")
    assert error_of(client.post(path, data={"size": "auto"})) == (400, "missing_source")
    assert error_of(client.post(path, files=image, data={"image_file_b64": "AAAA"})) == (
        400,
        "multiple_sources",
    )
    text = {"image_file": b"no photo"}
    assert error_of(client.post(path, files=text)) == (400, "invalid_file_type")
    large = client.post(path, files={"image_file": bytes(31_000_000)})
    assert error_of(large) == (400, "file_too_large")
    background = client.post(path, files={**image, "bg_image_file": photo()})
    assert error_of(background) == (400, "invalid_options")
    assert "bg_image_file" in background.json()["errors"][0]["title"]
    assert error_of(client.post("/v1.0/improve", files=image)) == (403, "forbidden")
    assert "/account" in client.post("/v1.0/improve").json()["errors"][0]["title"]
    assert error_of(client.get("/v1.0/nothing")) == (404, "no_such_path")


def test_a_form_in_base64_is_answered_with_bytes(client: Client) -> None:
    """Also to a client that takes anything, and names JSON first as axios does."""
    text = base64.b64encode(photo()).decode()
    headers = {"Accept": "application/json, text/plain, */*"}
    form = {"image_file_b64": text, "channels": "alpha"}
    answer = client.post("/v1.0/removebg", data=form, headers=headers)
    assert answer.ok, answer.text
    assert opened(answer.content).mode == "L"
    assert (int(answer.headers["X-Width"]), int(answer.headers["X-Height"])) == (48, 32)


def test_a_zip_has_colour_and_alpha_and_where_the_product_is(client: Client) -> None:
    """The same box as with any other format; in JSON as well."""
    fields = {"format": "zip", "crop": "true", "crop_margin": "3px"}
    answer = client.post("/v1.0/removebg", files={"image_file": photo()}, data=fields)
    assert answer.ok, answer.text
    assert answer.headers["Content-Type"] == "application/zip"
    with ZipFile(io.BytesIO(answer.content)) as archive:
        colour, alpha = (opened(archive.read(name)) for name in ("color.jpg", "alpha.png"))
    width, height = int(answer.headers["X-Width"]), int(answer.headers["X-Height"])
    assert (colour.mode, alpha.mode, colour.size) == ("RGB", "L", (width, height))
    box = {name: int(answer.headers[f"X-Foreground-{name}"]) for name in BOX}
    assert box == {"Left": 3, "Top": 3, "Width": width - 6, "Height": height - 6}
    data = {**fields, "format": "png", "image_file_b64": base64.b64encode(photo()).decode()}
    headers = {"Accept": "application/json"}
    described = client.post("/v1.0/removebg", json=data, headers=headers).json()["data"]
    assert {name: described[f"foreground_{name.lower()}"] for name in BOX} == box


def test_the_account_has_credits_for_clients_that_ask(client: Client) -> None:
    account = client.get("/v1.0/account").json()["data"]["attributes"]
    assert account["credits"].keys() == {"total", "subscription", "payg", "enterprise"}
    assert account["api"] == {"free_calls": 0, "sizes": "all"}

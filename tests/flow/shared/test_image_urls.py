"""Images from URLs, through a gateway of this process and the whole pipeline."""

import base64
import threading
from collections.abc import Iterator

import pytest

from erasestream.pipeline.bootstrap.gateway import gateway_of, gateway_stage
from erasestream.pipeline.gateway.egress.fetchers import Fetchers
from erasestream.schemas.events.credentials import CredentialKind
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import PipelineHarness
from tests.flow.shared.test_gateway import Client, issue, opened
from tests.flow.waiting import eventually
from tests.pipeline.gateway.egress.image_site import HOST, PROGRAM, ImageSite, ok

URL = f"https://{HOST}/photo.jpg"


@pytest.fixture(scope="module")
def client(flow: PipelineHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Yield a client of a gateway whose fetchers reach the site of this test."""
    site = ImageSite(tmp_path_factory.mktemp("site"))
    site.answers["/photo.jpg"] = ok(photo())
    settings = flow.settings
    section = gateway_of(settings).model_copy(update={"listen_port": 0})
    stage = settings.stage.model_copy(update={"instance": "urls"})
    settings = settings.model_copy(update={"gateway": section, "stage": stage})
    ended = threading.Event()
    fetchers = Fetchers(site.authorities, program=PROGRAM, timeout_s=60)
    with site.serving(), gateway_stage(settings, ended, fetchers=fetchers) as gateway:

        def follow() -> None:
            while not ended.is_set():
                gateway.run_once()

        thread = threading.Thread(target=follow)
        thread.start()
        client = Client(flow, issue(flow, "urls-caller", CredentialKind.IMAGE).text)
        client.url = f"https://{section.listen_host}:{gateway.port}"
        eventually("the key is known", lambda: client.get("/v2/account").ok)
        yield client
        ended.set()
        thread.join()


def test_every_contract_fetches_an_image_from_its_url(client: Client) -> None:
    size = opened(photo()).size
    multipart = client.post(files={"image_url": (None, URL)})
    assert multipart.ok, multipart.text
    assert opened(multipart.content).size == size
    answer = client.post(json={"image_url": URL, "channels": "alpha"})
    assert opened(base64.b64decode(answer.json()["mask"])).size == size
    removebg = client.post("/v1.0/removebg", data={"image_url": URL, "size": "auto"})
    assert opened(removebg.content).size == size


def test_failures_have_a_code_in_every_contract(client: Client) -> None:
    """All that happens beyond the URL has the same."""
    for url, status, code in (
        ("http://169.254.169.254/latest/meta-data", 400, "invalid_image_url"),
        (5, 400, "invalid_image_url"),
        (f"https://{HOST}/missing.jpg", 422, "image_url_failed"),
        ("https://missing.example/photo.jpg", 422, "image_url_failed"),
    ):
        answer = client.post(json={"image_url": url})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        removebg = client.post("/v1.0/removebg", data={"image_url": str(url)})
        assert (removebg.status_code, removebg.json()["errors"][0]["code"]) == (400, code)

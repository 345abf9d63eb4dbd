"""Faults of the local bucket, as clients meet them."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from erasestream.pipeline.devstack.gcs_emulator.faults import Fault
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.schemas.errors import Refused
from tests.pipeline.devstack.gcs_emulator.conftest import OBJECTS, exists, put


def media(served: Any, name: str, **options: Any) -> requests.Response:
    path = f"{OBJECTS}/{quote(name, safe='')}?alt=media"
    response: requests.Response = served.call("GET", path, **options)
    return response


def test_a_status_is_answered_as_often_as_it_was_asked_for(served: Any, name: str) -> None:
    with served.server.faults(Fault(status=429, times=1), Fault(status=503, times=2)):
        assert [put(served, name).status_code for _ in range(4)] == [429, 503, 503, 200]
    assert exists(served, name)


def test_a_fault_concerns_its_methods_and_its_bucket_only(served: Any, name: str) -> None:
    post, images = frozenset({"POST"}), frozenset({"GET"})
    with served.server.faults(
        Fault(status=503, methods=post), Fault(status=500, methods=images, bucket="images")
    ):
        assert put(served, name).status_code == 503
        assert media(served, name).status_code == 404
        assert served.call("GET", "/storage/v1/b/images/o").status_code == 500
        assert served.call("GET", "/storage/v1/b/images").status_code == 500
    assert put(served, name).status_code == 200


def test_an_answer_can_be_lost_after_the_request_took_effect(served: Any, name: str) -> None:
    """The client sees a failure, and its next attempt finds the object."""
    with served.server.faults(Fault(status=503, part="response", times=1)):
        assert put(served, name, query="&ifGenerationMatch=0").status_code == 503
        assert put(served, name, query="&ifGenerationMatch=0").status_code == 412


def test_a_delay_is_longer_than_the_client_waits(served: Any, name: str) -> None:
    with served.server.faults(Fault(delay_s=600)), pytest.raises(requests.ReadTimeout):
        media(served, name, timeout=0.2)
    put(served, name, b"later")
    with served.server.faults(Fault(delay_s=0.01)):
        assert media(served, name).content == b"later"


@pytest.mark.parametrize("size", [0, 500_000])
def test_an_upload_that_is_cut_leaves_nothing(served: Any, name: str, size: int) -> None:
    with served.server.faults(Fault(cut_after=size)), pytest.raises(requests.ConnectionError):
        put(served, name, bytes(5_000_000))
    assert not exists(served, name)


@pytest.mark.parametrize("size", [0, 500_000])
def test_a_download_is_cut_in_the_middle(served: Any, name: str, size: int) -> None:
    put(served, name, bytes(5_000_000))
    with (
        served.server.faults(Fault(cut_after=size, part="response")),
        pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)),
    ):
        media(served, name)
    assert len(media(served, name).content) == 5_000_000


def test_an_answer_that_is_cut_hides_that_the_upload_took_effect(served: Any, name: str) -> None:
    with (
        served.server.faults(Fault(cut_after=0, part="response")),
        pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)),
    ):
        put(served, name)
    assert exists(served, name)


def test_anonymous_callers_meet_no_fault(served: Any) -> None:
    with served.server.faults(Fault(status=503)):
        assert served.call("GET", OBJECTS, None).status_code == 401


def test_a_server_without_a_file_has_no_faults_to_switch(served: Any) -> None:
    server = BucketProcess(served.server._process, served.server.endpoint, Path("log"), None)
    with pytest.raises(Refused, match="no file for faults"), server.faults(Fault(status=503)):
        pass

"""A fetcher that was taken over reaches nothing but its connection."""

import json
from pathlib import Path
from typing import Any

import pytest

from erasestream.pipeline.gateway.egress.fetchers import Fetchers
from erasestream.schemas.ids import AccountId
from tests.pipeline.gateway.egress.image_site import HOST, ImageSite

CAPTIVE = "tests.pipeline.gateway.egress.captive_fetcher"
SECRET = "a-signature-in-the-url"


async def found(folder: Path) -> dict[str, Any]:
    site = ImageSite(folder)
    with site.serving():
        fetchers = Fetchers(site.authorities, program=CAPTIVE, timeout_s=60)
        url = f"https://{HOST}/photo.jpg?{SECRET}"
        done: dict[str, Any] = json.loads(await fetchers.fetch(url, AccountId("alice")))
    return done


async def test_a_fetcher_that_was_taken_over_reaches_its_connection_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is connected it resolves names and connects; then it does not even that."""
    monkeypatch.setenv("ERASESTREAM_SECRET", "secret")
    captive = await found(tmp_path)
    assert {*captive["environment"]} <= {
        "LANG",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "MALLOC_ARENA_MAX",
        "PYTHONPATH",
    }
    assert SECRET not in json.dumps(captive["arguments"])
    assert captive["descriptors"] == 5  # three of nothing, the socket, and this folder
    may_begin = {
        "read the resolver's file",
        "connect to the allowed port",
        "send a datagram",
    }
    for name, outcome in captive["before"].items():
        assert (outcome == "succeeded") == (name in may_begin), name
    assert "succeeded" not in captive["after"].values()

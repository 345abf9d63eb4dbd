"""Images from URLs: real fetchers, real HTTPS, and what a hostile caller or server may try."""

import asyncio
import gzip
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from erasestream.pipeline.bootstrap.gateway import url_fetchers
from erasestream.pipeline.gateway.egress import protocol
from erasestream.pipeline.gateway.egress.fetcher import (
    authorities_file,
    connect_to,
    get,
    public_addresses,
)
from erasestream.pipeline.gateway.egress.fetchers import Fetchers
from erasestream.pipeline.gateway.egress.image_url import ImageUrl
from erasestream.pipeline.gateway.egress.protocol import Answer, BrokenAnswer, Kind
from erasestream.pipeline.gateway.problems import Problem
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.schemas.ids import AccountId
from tests.pipeline.gateway.egress.image_site import (
    HOST,
    OTHER_PUBLIC,
    PRIVATE,
    PROGRAM,
    PUBLIC,
    ImageSite,
    ok,
    redirect,
)

ALICE, BOB, CAROL = AccountId("alice"), AccountId("bob"), AccountId("carol")
PHOTO = bytes(range(256)) * 1000
URL = f"https://{HOST}/photo.jpg"
FAILED = (422, "image_url_failed", "The image could not be fetched from its URL.", {})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ImageSite]:
    site = ImageSite(tmp_path)
    site.answers["/photo.jpg"] = ok(PHOTO, "Set-Cookie: a=b")
    with site.serving():
        yield site


@pytest.fixture
def fetchers(site: ImageSite) -> Fetchers:
    return Fetchers(site.authorities, program=PROGRAM, timeout_s=60)


async def refusal(fetchers: Fetchers, url: str) -> tuple[object, ...]:
    """Return all that the answer shows of a URL from which nothing is fetched."""
    with pytest.raises(Problem) as caught:
        await fetchers.fetch(url, ALICE)
    found = caught.value
    return found.status, found.code, found.message, dict(found.headers)


async def test_an_image_is_fetched_from_the_address_that_was_checked(
    fetchers: Fetchers, site: ImageSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is resolved once: its second address is private.  No proxy, no cookie, no key."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await fetchers.fetch(f"https://{HOST}:443/photo.jpg#top", ALICE) == PHOTO
    assert await fetchers.fetch(URL, ALICE) == PHOTO
    first, second = site.requests
    assert first == second
    assert sorted(first.strip().lower().split("\r\n")) == [
        "accept-encoding: identity",
        "accept: image/*",
        "connection: close",
        "get /photo.jpg http/1.1",
        f"host: {HOST}",
        "user-agent: erasestream",
    ]


async def test_an_address_that_cannot_be_reached_is_followed_by_the_next(
    fetchers: Fetchers, site: ImageSite
) -> None:
    site.names[HOST] = [[OTHER_PUBLIC, PUBLIC]]
    site.write_network()
    assert await fetchers.fetch(URL, ALICE) == PHOTO


async def test_redirects_on_the_host_are_followed_three_times(
    fetchers: Fetchers, site: ImageSite
) -> None:
    site.answers["/moved"] = redirect("/photo.jpg", 308)
    site.answers["/again"] = redirect("/again")
    assert await fetchers.fetch(f"https://{HOST}/moved", ALICE) == PHOTO
    assert await refusal(fetchers, f"https://{HOST}/again") == FAILED
    assert len(site.requests) == 2 + 4


async def test_an_address_is_checked_again_after_a_redirect(
    fetchers: Fetchers, site: ImageSite
) -> None:
    """The name leads to a private address once the server has answered."""

    def rebind() -> bytes:
        site.names[HOST] = [[PRIVATE]]
        site.write_network()
        return redirect("/photo.jpg")

    site.answers["/rebind"] = rebind
    assert await refusal(fetchers, f"https://{HOST}/rebind") == FAILED
    assert len(site.requests) == 1


@pytest.mark.parametrize("addresses", [[PUBLIC, PRIVATE], [OTHER_PUBLIC], []])
async def test_no_server_is_asked_at_an_address_that_is_refused(
    fetchers: Fetchers, site: ImageSite, addresses: list[str]
) -> None:
    """Not even if only one of several is; a name without address and a silent one look the same."""
    site.names[HOST] = [addresses, [PUBLIC]]
    site.write_network()
    assert await refusal(fetchers, URL) == FAILED
    assert site.requests == []


@pytest.mark.parametrize(
    "addresses",
    [[], [PRIVATE], [PRIVATE, PUBLIC], ["::ffff:93.184.216.34"], ["64:ff9b::5db8:d822", PUBLIC]],
)
def test_all_addresses_of_a_name_are_public(addresses: list[str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        public_addresses(addresses)


async def test_a_redirect_elsewhere_is_not_followed(fetchers: Fetchers, site: ImageSite) -> None:
    site.names["odd.example"] = [[PUBLIC]]
    site.write_network()
    site.answers["/moved"] = redirect("https://odd.example/photo.jpg")
    assert await refusal(fetchers, f"https://{HOST}/moved") == FAILED
    assert len(site.requests) == 1


async def test_a_certificate_must_be_the_hosts(fetchers: Fetchers, site: ImageSite) -> None:
    site.names["other.example"] = [[PUBLIC]]
    site.write_network()
    assert await refusal(fetchers, "https://other.example/photo.jpg") == FAILED
    assert site.requests == []


async def test_a_certificate_must_be_of_a_known_authority(site: ImageSite, tmp_path: Path) -> None:
    stranger = ImageSite(tmp_path / "stranger")
    network = tmp_path / "network.json"
    (tmp_path / "stranger" / "network.json").write_bytes(network.read_bytes())
    fetchers = Fetchers(stranger.authorities, program=PROGRAM, timeout_s=60)
    assert await refusal(fetchers, URL) == FAILED
    assert site.requests == []


async def test_the_largest_image_arrives_and_a_larger_one_is_refused(
    fetchers: Fetchers, site: ImageSite
) -> None:
    largest = bytes(MAX_UPLOAD_BYTES)
    site.answers["/largest"] = ok(largest)
    site.answers["/larger"] = f"HTTP/1.1 200 OK\r\nContent-Length: {10**12}\r\n\r\n".encode()
    arrived = await fetchers.fetch(f"https://{HOST}/largest", ALICE)
    assert len(arrived) == len(largest)
    status, code, message, _ = await refusal(fetchers, f"https://{HOST}/larger")
    assert (status, code) == (413, "too_large")
    assert "30 MB" in str(message)


def got(site: ImageSite, answer: bytes) -> Answer:
    """Return what a fetcher makes of an answer, in this process."""
    site.answers["/photo.jpg"] = answer
    context = ssl.create_default_context(cafile=str(site.authorities))
    plain = connect_to("127.0.0.1", site.port)
    with context.wrap_socket(plain, server_hostname=HOST) as secured:
        secured.settimeout(60)
        return get(ImageUrl(HOST, "/photo.jpg"), secured)


def test_bytes_are_counted_where_no_length_is_declared(site: ImageSite) -> None:
    larger = bytes(MAX_UPLOAD_BYTES + 1)
    chunk = f"{len(larger):x}\r\n".encode() + larger + b"\r\n0\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
    assert got(site, chunked) == Answer(Kind.TOO_LARGE)
    assert got(site, b"HTTP/1.1 200 OK\r\n\r\n" + larger) == Answer(Kind.TOO_LARGE)


BROKEN = {
    "missing": b"HTTP/1.1 404 Not Found\r\n\r\n" + PHOTO,
    "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "in part": ok(PHOTO).replace(b"200 OK", b"206 Partial Content", 1),
    "compressed": ok(gzip.compress(PHOTO), "Content-Encoding: gzip"),
    "truncated": ok(PHOTO)[:-1],
    "no HTTP": PHOTO,
    "nothing": b"",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000,
    "a long header": b"HTTP/1.1 200 OK\r\na: " + b"a" * 1_000_000,
    "a long location": redirect("/" + "a" * 10_000),
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_a_server_answers_is_one_failure(site: ImageSite, name: str) -> None:
    try:
        answer = got(site, BROKEN[name])
    except (OSError, ValueError, HTTPException):  # as `fetch` has it
        answer = protocol.FAILED
    assert answer == protocol.FAILED


async def test_an_answer_without_an_image_is_one_failure(fetchers: Fetchers) -> None:
    assert await refusal(fetchers, f"https://{HOST}/missing.jpg") == FAILED


async def test_a_url_that_is_refused_starts_nothing(site: ImageSite) -> None:
    fetchers = Fetchers(site.authorities, program="no.such.program")
    status, code, *_ = await refusal(fetchers, "https://127.0.0.1/")
    assert (status, code) == (400, "invalid_image_url")


async def test_a_fetcher_that_does_not_work_is_one_failure(site: ImageSite) -> None:
    assert await refusal(Fetchers(site.authorities, program="no.such.program"), URL) == FAILED


async def test_a_silent_server_ends_with_the_time_of_the_fetch(site: ImageSite) -> None:
    over = threading.Event()
    site.answers["/photo.jpg"] = lambda: ok(PHOTO) if over.wait(60) else b""
    fetchers = Fetchers(site.authorities, program=PROGRAM, timeout_s=3)
    assert await refusal(fetchers, URL) == FAILED
    over.set()


async def test_one_account_leaves_fetchers_to_others(site: ImageSite) -> None:
    over = threading.Event()
    site.answers["/slow"] = lambda: ok(PHOTO) if over.wait(60) else b""
    fetchers = Fetchers(site.authorities, program=PROGRAM, most=2, timeout_s=60)
    slow = f"https://{HOST}/slow"
    waiting = [asyncio.create_task(fetchers.fetch(slow, each)) for each in (ALICE, BOB)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as own:
        await fetchers.fetch(slow, ALICE)
    with pytest.raises(Problem) as others:
        await fetchers.fetch(slow, CAROL)
    over.set()
    assert await asyncio.gather(*waiting) == [PHOTO, PHOTO]
    assert (own.value.status, own.value.code) == (429, "too_many_at_once")
    assert (others.value.status, others.value.code) == (503, "overloaded")
    assert {*own.value.headers} == {*others.value.headers} == {"Retry-After"}
    assert await fetchers.fetch(URL, CAROL) == PHOTO


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\1",
        protocol.HEADER.pack(0, 0),
        protocol.HEADER.pack(9, 0),
        protocol.HEADER.pack(Kind.IMAGE, 1),
        protocol.HEADER.pack(Kind.IMAGE, 1) + b"ab",
        protocol.HEADER.pack(Kind.FAILED, 1) + b"a",
        protocol.encode_answer(Answer(Kind.REDIRECT, b"a" * 10_000)),
    ],
)
def test_an_answer_is_believed_only_if_it_is_whole(raw: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        protocol.parse_answer(raw)


def test_messages_arrive_as_they_were_sent() -> None:
    url = ImageUrl(HOST, "/a?b")
    assert protocol.parse_request(protocol.encode_request(url)) == url
    answer = Answer(Kind.IMAGE, PHOTO)
    assert protocol.parse_answer(protocol.encode_answer(answer)) == answer
    assert protocol.MAX_IMAGE_BYTES == MAX_UPLOAD_BYTES


def test_a_system_with_authorities_and_a_sandbox_can_fetch() -> None:
    """As `gateway.fetch_urls` asks for."""
    authorities = authorities_file()
    assert authorities is not None
    assert ssl.create_default_context(cafile=str(authorities)).get_ca_certs()
    assert isinstance(url_fetchers(), Fetchers)

"""URLs of images: one reading is possible, or none is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.gateway.egress.image_url import MAX_URL, ImageUrl, InvalidUrl

URL = ImageUrl("images.example", "/a/photo.jpg?size=1")

ACCEPTED = {
    "https://images.example": "/",
    "HTTPS://Images.Example:443/a.jpg": "/a.jpg",
    " https://images.example?a=b ": "/?a=b",
    "https://images.example/a.jpg#fragment": "/a.jpg",
    "https://images.example/ein bild ü.jpg": "/ein%20bild%20%C3%BC.jpg",
    "https://images.example/%2e%2e/a@b:c": "/%2e%2e/a@b:c",
    "https://images.example//other.example/a.jpg": "//other.example/a.jpg",
}
REFUSED = [
    # Other schemes.
    "",
    "http://images.example/a.jpg",
    "file:///etc/passwd",
    "ftp://images.example/a.jpg",
    "gopher://images.example/",
    "data:image/png;base64,AAAA",
    "//images.example/a.jpg",
    "images.example/a.jpg",
    "https:/images.example/a.jpg",
    "https:images.example/a.jpg",
    "url:https://images.example/a.jpg",
    # Users, and what other parsers may take for the host.
    "https://user@images.example/a.jpg",
    "https://user:secret@images.example/a.jpg",
    "https://images.example@127.0.0.1/",
    "https://127.0.0.1#@images.example/",
    "https://images.example\\@127.0.0.1/",
    "https://images.example\\.other.example/",
    "https://images.example%2fother.example/",
    "https://images.example%00.other.example/",
    "https://images.example\t/a.jpg",
    "https://images.example/a.jpg\r\nHost: other.example",
    "https://images.example/\x00",
    "https://images.example/\x7f",
    "https://images.example/\ud800",
    # Other ports.
    "https://images.example:8443/a.jpg",
    "https://images.example:80/a.jpg",
    "https://images.example:0443/a.jpg",
    "https://images.example:/a.jpg",
    "https://images.example:443:443/a.jpg",
    # Addresses, in any notation.
    "https://127.0.0.1/",
    "https://93.184.216.34/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0x0.0x0.0x1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://1.2.3.4.5/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fe80::1%25eth0]/",
    "https://[2606:2800:220:1::1]/",
    "https://\u0661\u0662\u0667.0.0.1/",
    "https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
    # Names that are local, incomplete, or spelt in other letters.
    "https://localhost/",
    "https://kubernetes/",
    "https://images.example./a.jpg",
    "https://images..example/",
    "https://.images.example/",
    "https://-images.example/",
    "https://images.example-/",
    "https://im_ages.example/",
    "https://*.example/",
    "https://bücher.example/",
    "https://images。example/",
    "https://ⓘmages.example/",
    f"https://{'a' * 64}.example/",
    f"https://{'a.' * 127}example/",
    f"https://images.example/{'a' * MAX_URL}",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_a_url_is_read_in_one_way(text: str) -> None:
    assert ImageUrl.parse(text) == ("images.example", ACCEPTED[text])


def test_an_international_name_is_accepted_in_its_ascii_form() -> None:
    assert ImageUrl.parse("https://xn--bcher-kva.example/a").host == "xn--bcher-kva.example"


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidUrl):
        ImageUrl.parse(text)


@given(st.text() | st.text().map("https://images.example{}".format))
def test_what_is_accepted_is_a_host_name_and_a_printable_target(text: str) -> None:
    try:
        url = ImageUrl.parse(text)
    except InvalidUrl:
        return
    assert url.target.startswith("/")
    assert all("!" <= each <= "~" for each in url.host + url.target)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("b.jpg", "/a/b.jpg"),
        ("/b.jpg", "/b.jpg"),
        ("?size=2", "/a/photo.jpg?size=2"),
        ("https://images.example:443/b.jpg", "/b.jpg"),
        ("//images.example/b.jpg", "/b.jpg"),
        ("", URL.target),
    ],
)
def test_a_redirect_stays_on_its_host(location: str, target: str) -> None:
    assert URL.redirected(location) == ("images.example", target)


@pytest.mark.parametrize(
    "location",
    [
        "http://images.example/b.jpg",
        "https://other.example/b.jpg",
        "https://www.images.example/b.jpg",
        "//other.example/b.jpg",
        "https://images.example:8443/b.jpg",
        "https://user@images.example/b.jpg",
        "https://[::1]/b.jpg",
        "https://[::1/b.jpg",
        "file:///etc/passwd",
        "https://127.0.0.1/",
        "b" * (MAX_URL + 1),
    ],
)
def test_a_redirect_elsewhere_is_refused(location: str) -> None:
    with pytest.raises(InvalidUrl):
        URL.redirected(location)

"""The program of a fetcher: one request to one server, and nothing else in its life.

1. Read the authorities' certificates; give up all rights but to resolve names and to connect.
2. Take the request, and resolve its name, once.  All addresses must be public.
3. Connect to one of them; give up everything but this connection.
4. TLS, with the certificate verified for the name; HTTP; write the answer, and end.

It is started by exec, for each request, and has no file, key or setting of the gateway, no proxy
and no cookies.  It follows no redirect: the gateway checks where one leads, and starts another
fetcher.
"""

import http.client
import json
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from erasestream.pipeline.gateway.egress import confinement
from erasestream.pipeline.gateway.egress.image_url import MAX_URL, ImageUrl
from erasestream.pipeline.gateway.egress.protocol import (
    FAILED,
    MAX_IMAGE_BYTES,
    Answer,
    Kind,
    encode_answer,
    parse_request,
)
from erasestream.pipeline.gateway.egress.public_addresses import is_public
from erasestream.pipeline.runtime.sandbox.restrictions import end_with

PORT = 443
CONNECT_S = 3.0
READ_S = 10.0
MAX_ADDRESSES = 4
PIECE_BYTES = 65_536
REQUEST_HEADERS = {
    "User-Agent": "erasestream",
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MODULES = ("encodings.idna", "email.feedparser", "email.message", "email.parser")
"""Imported on first use, when no file can be opened any more."""

Resolve = Callable[[str], Sequence[str]]


class Network(NamedTuple):
    """How names are resolved and where connections go; tests lead both elsewhere."""

    resolve: Resolve
    connect: Callable[[str], socket.socket]
    ports: Sequence[int]


def main(argument: str, network: Network | None = None) -> int:
    """Answer one request.  `argument`: JSON with `parent`, `socket` and `authorities`."""
    config = json.loads(argument)
    end_with(config["parent"])
    channel = socket.socket(fileno=config["socket"])
    context = ssl.create_default_context(cafile=config["authorities"])
    network = network or Network(resolve, connect, (PORT,))
    for name in _MODULES:
        import_module(name)
    confinement.confine(network.ports)
    answer = fetch(parse_request(_whole(channel)), context, network)
    channel.sendall(encode_answer(answer))
    return 0


def fetch(url: ImageUrl, context: ssl.SSLContext, network: Network) -> Answer:
    """Return the answer to a request; whatever is wrong with its server is one failure."""
    try:
        connection = _connection(public_addresses(network.resolve(url.host)), network)
        confinement.confine_to_connection()
        with context.wrap_socket(connection, server_hostname=url.host) as secured:
            secured.settimeout(READ_S)
            return get(url, secured)
    except (OSError, ValueError, http.client.HTTPException):
        return FAILED


def public_addresses(addresses: Sequence[str]) -> Sequence[str]:
    """Return the addresses of a name.  Raises `ValueError` unless all of them are public."""
    if not addresses or not all(map(is_public, addresses)):
        raise ValueError
    return addresses[:MAX_ADDRESSES]


def resolve(host: str) -> Sequence[str]:
    """Return the addresses of a name, which is complete as it is.  Raises `OSError`."""
    found = socket.getaddrinfo(f"{host}.", PORT, type=socket.SOCK_STREAM)
    return [*dict.fromkeys(str(address[0]) for *_, address in found)]


def connect(address: str) -> socket.socket:
    """Connect to an address.  Raises `OSError`."""
    return connect_to(address, PORT)


def connect_to(address: str, port: int) -> socket.socket:
    """Connect to an address, which is not resolved again.  Raises `OSError`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_S)
        connection.connect((address, port))
    except OSError:
        connection.close()
        raise
    return connection


def _connection(addresses: Sequence[str], network: Network) -> socket.socket:
    for address in addresses[:-1]:
        try:
            return network.connect(address)
        except OSError:
            continue
    return network.connect(addresses[-1])


def get(url: ImageUrl, secured: ssl.SSLSocket) -> Answer:
    """Return what the server answers.  Raises `OSError`, `ValueError`, `HTTPException`."""
    connection = http.client.HTTPConnection(url.host)
    connection.sock = secured
    connection.putrequest("GET", url.target, skip_accept_encoding=True)
    for name, value in REQUEST_HEADERS.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    if response.status in _REDIRECTS:
        location = response.headers.get("Location", "").encode()
        return Answer(Kind.REDIRECT, location) if len(location) <= MAX_URL else FAILED
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if response.status != HTTPStatus.OK or encoding != "identity":
        return FAILED
    return _body(response)


def _body(response: http.client.HTTPResponse) -> Answer:
    """Return the image, unless its declared length or its bytes are too many."""
    size = response.length or 0
    pieces = []
    if size <= MAX_IMAGE_BYTES:
        size = 0
        while size <= MAX_IMAGE_BYTES and (piece := response.read(PIECE_BYTES)):
            size += len(piece)
            pieces.append(piece)
    if size > MAX_IMAGE_BYTES:
        return Answer(Kind.TOO_LARGE)
    return FAILED if response.length else Answer(Kind.IMAGE, b"".join(pieces))


def _whole(channel: socket.socket) -> bytes:
    return b"".join(iter(lambda: channel.recv(PIECE_BYTES), b""))


def authorities_file() -> Path | None:
    """Return the file with the system's authorities; None if there is none."""
    default = ssl.get_default_verify_paths().cafile
    known = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
    candidates = [Path(each) for each in (default, *known, "/etc/ssl/cert.pem") if each]
    return next((each for each in candidates if each.is_file()), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

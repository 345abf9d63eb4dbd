"""A real HTTPS server on loopback, and the network in which public addresses lead to it."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority

PROGRAM = "tests.pipeline.gateway.egress.rerouted_fetcher"
HOST = "images.example"
PUBLIC, OTHER_PUBLIC, PRIVATE = "93.184.216.34", "93.184.216.35", "10.0.0.1"

Answer = bytes | Callable[[], bytes]


def ok(body: bytes, *headers: str) -> bytes:
    """Return an answer with this body and its length."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    """Return a redirect."""
    head = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    return head.encode()


class ImageSite:
    """Answers by path, with bytes as they are; `requests` has the heads of all requests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = CertificateAuthority.create(
            folder / "authority", now=lambda: datetime.now(UTC)
        )
        self.authority.publish(folder)
        self.authorities = folder / "ca.crt"
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.names: dict[str, list[list[str]]] = {HOST: [[PUBLIC], [PRIVATE]]}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_server("site", folder, hosts=(HOST, "odd.example"))
        self._context.load_cert_chain(folder / "site.crt", folder / "site.key")

    @contextmanager
    def serving(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[None]:
        """Serve until the block ends."""
        site = self

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    site.answer(self.request)

        class Server(ThreadingTCPServer):
            daemon_threads = True

        with Server(address, Handler) as server:
            self.port = server.server_address[1]
            self.write_network()
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            yield
            server.shutdown()
            thread.join()

    def write_network(self) -> None:
        """Write the network for fetchers that start from now on."""
        ports: Mapping[str, int] = {PUBLIC: self.port, PRIVATE: self.port}
        network = {"names": self.names, "ports": ports}
        (self._folder / "network.json").write_text(json.dumps(network))

    def answer(self, plain: ssl.SSLSocket) -> None:
        """Answer one connection."""
        with self._context.wrap_socket(plain, server_side=True) as secured:
            head = b""
            while b"\r\n\r\n" not in head and (piece := secured.recv(4096)):
                head += piece
            self.requests.append(head.decode())
            answer = self.answers.get(head.decode().split(" ")[1], b"HTTP/1.1 404 None\r\n\r\n")
            secured.sendall(answer if isinstance(answer, bytes) else answer())

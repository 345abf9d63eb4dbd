"""HTTPS with mutual TLS 1.3: one thread for each connection, the role from its certificate.

Rules, all of them:

* The handshake is made in the connection's thread; without a certificate of the installation's
  authority no request is read.
* Connections are bounded in number and time, before and after the handshake (`connections.py`): no
  address and no lane keeps the keys from the others.
* A renewed certificate is used for new connections; open ones go on.
* Nothing of a request is logged, and nothing of an answer.
"""

import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from erasestream.pipeline.stages.keys.connections import POLL_S, Connections
from erasestream.pipeline.stages.keys.key_answers import Answer
from erasestream.schemas.errors import Refused
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.endpoints import common_name

IDLE_TIMEOUT_S = 10.0

AnswerTo = Callable[[str, str], Answer]
"""Returns the answer to a role and a path."""


class KeyServer:
    """The listening server of one replica."""

    def __init__(self, *, host: str, port: int, identity: Identity, answer: AnswerTo) -> None:
        """Listen.  Raises `Refused` if the address is taken, or the certificate cannot be used."""
        context = _context(identity)
        try:
            self._server = _Server((host, port), context, answer)
        except OSError as error:
            raise Refused(f"keys: {host}:{port}: {error.strerror}") from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="keys", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # the system has no thread for it
            self._server.server_close()
            raise

    def renew(self, identity: Identity) -> None:
        """Use these certificates for new connections.  Raises `CertificateRefused`."""
        self._server.context = _context(identity)

    def close(self) -> None:
        """Stop listening; requests in flight are answered, idle connections dropped."""
        self._server.connections.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _context(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    identity.load_into(context)
    # No session outlives the check of its certificate.
    context.num_tickets = 0
    return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, answer: AnswerTo) -> None:
        self.context = context
        self.answer = answer
        self.connections = Connections(time.monotonic)
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[Any, Any]:
        request, client_address = super().get_request()
        request.settimeout(IDLE_TIMEOUT_S)
        secured = self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return secured, client_address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self.connections.admit(request, client_address[0])

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.do_handshake()
        if self.connections.prove(request, common_name(request.getpeercert()).partition(".")[0]):
            super().finish_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.remove(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        self.connections.end_overdue()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a client that breaks off, or has no certificate, is no event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # One segment, and no pause for the acknowledgement of the headers.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        role = common_name(self.request.getpeercert())
        status, body = self.server.answer(role, self.path)
        raw = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: a path names a purpose and an epoch of a lane."""

"""Connections to the replicas of the key service.

Rules, all of them:

* Every connection is mutual TLS 1.3; the server's certificate has the subject `keys`.
* Endpoints are tried in turn, first in an order drawn by chance, so that clients spread over them,
  then from the one that answered last; once all have failed, again after a pause, until the
  deadline.
* A key is denied, or of no purpose, once every replica that answers agrees: one that was not
  restarted yet does not know a new lane.
* A key is unknown once every replica has answered so: those who ask may remember that.
"""

import http.client
import secrets
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import (
    CertificateRefused,
    Code,
    NotAuthorized,
    Refused,
    Unavailable,
)
from erasestream.topics.catalog.roles import KEYS
from erasestream.topics.kafka.backoff import retry
from erasestream.topics.kafka.connection import parse_key_endpoint
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.answers import NO_PURPOSE, STATUS, KeyRequest, NoKey

ATTEMPT_S = 5.0
"""Longest wait for one endpoint."""
MIN_ATTEMPT_S = 0.5
MAX_PAUSE_S = 1.0
MAX_ANSWER_BYTES = 65536

T = TypeVar("T")
_Endpoint = tuple[str, int]


class KeyEndpoints:
    """The replicas, as one.  Thread-safe."""

    def __init__(self, endpoints: Sequence[str], identity: Identity, *, attempt_s: float) -> None:
        """Raise `Refused` if there is no endpoint, or one is not `https://host:port`."""
        if not endpoints:
            raise Refused("keys: there must be at least one endpoint")
        self._endpoints = [parse_key_endpoint(endpoint) for endpoint in endpoints]
        secrets.SystemRandom().shuffle(self._endpoints)
        self._identity = identity
        self._attempt_s = attempt_s
        self._lock = threading.Lock()

    def ask(
        self, request: KeyRequest, deadline: Deadline, parse: Callable[[bytes, KeyRequest], T]
    ) -> T | NoKey:
        """Return the parsed answer.  Raises `Unavailable` at the deadline, or `Refused`."""
        return retry(
            lambda: self._ask_all(request, deadline, parse),
            deadline=deadline,
            max_pause_s=MAX_PAUSE_S,
        )

    def _ask_all(
        self, request: KeyRequest, deadline: Deadline, parse: Callable[[bytes, KeyRequest], T]
    ) -> T | NoKey:
        with self._lock:
            endpoints = list(self._endpoints)
        refusal: Refused | None = None
        failure = ""
        unknown = 0
        for endpoint in endpoints:
            try:
                answer = self._ask_one(endpoint, request, deadline, parse)
            except Unavailable as error:
                failure = error.detail
                continue
            except Refused as error:
                refusal = error
                continue
            if answer is NoKey.UNKNOWN:
                unknown += 1
                continue
            with self._lock:
                self._endpoints.sort(key=endpoint.__ne__)
            return answer
        if unknown == len(endpoints):
            return NoKey.UNKNOWN
        if refusal and not unknown:
            raise refusal
        raise Unavailable(failure or "replicas disagree", Code.KEYS_UNAVAILABLE)

    def _ask_one(
        self,
        endpoint: _Endpoint,
        request: KeyRequest,
        deadline: Deadline,
        parse: Callable[[bytes, KeyRequest], T],
    ) -> T | NoKey:
        timeout_s = max(MIN_ATTEMPT_S, deadline.slice_s(self._attempt_s))
        status, body = self._get(endpoint, request.path, timeout_s)
        if status == http.client.OK:
            return parse(body, request)
        if status == http.client.FORBIDDEN:
            raise NotAuthorized(f"{self._identity.role} gets no such key of {request.purpose}")
        if status == NO_PURPOSE:
            raise Refused(f"keys: there is no purpose {request.purpose}; restart the key service")
        for answer, code in STATUS.items():
            if status == code:
                return answer
        raise Unavailable(f"the key service answers {status}", Code.KEYS_UNAVAILABLE)

    def _get(self, endpoint: _Endpoint, path: str, timeout_s: float) -> tuple[int, bytes]:
        # A context of its own for each connection: a renewed certificate takes effect at once.
        try:
            context = self._identity.ssl_context()
        except CertificateRefused as error:  # its files are being replaced: they were read before
            raise Unavailable(error.detail, Code.KEYS_UNAVAILABLE) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        host, port = endpoint
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        try:
            connection.connect()
            _check_subject(connection)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # no such host name
            raise Unavailable(f"{host}:{port}: {error}", Code.KEYS_UNAVAILABLE) from error
        finally:
            connection.close()


def common_name(certificate: object) -> str:
    """Return the only common name of a certificate as `getpeercert` returns it, else ""."""
    subject = certificate.get("subject", ()) if isinstance(certificate, dict) else ()
    names = [value for part in subject for name, value in part if name == "commonName"]
    return names[0] if len(names) == 1 and isinstance(names[0], str) else ""


def _check_subject(connection: http.client.HTTPSConnection) -> None:
    if not isinstance(connection.sock, ssl.SSLSocket):
        raise Unavailable("no TLS", Code.KEYS_UNAVAILABLE)
    if common_name(connection.sock.getpeercert()) != KEYS:
        raise Unavailable("the server is not the key service", Code.KEYS_UNAVAILABLE)

"""Client quotas on the brokers, read and set with two requests of Kafka's protocol.

The client library has no call for them (`docs/decisions/0022-client-quotas.md`).  Requests are
DescribeClientQuotas 0 and AlterClientQuotas 0, over a connection of the role's own; any broker
answers.

Source: https://kafka.apache.org/protocol
"""

import ssl
import struct
from collections.abc import Mapping

from erasestream.schemas.errors import CertificateRefused, NotAuthorized, Refused, Unavailable
from erasestream.topics.kafka.admin import REQUEST_TIMEOUT_S
from erasestream.topics.kafka.broker_channel import Answer, BrokerChannel, connected, string
from erasestream.topics.kafka.connection import Connection

Quotas = Mapping[str, Mapping[str, float]]
"""Per user (a principal without its type) the limits by Kafka's names."""

API_VERSIONS, DESCRIBE, ALTER = 18, 48, 49
USER = "user"
SPECIFIED = 2
"""Match of a filter: every entity that names such a user, not the default one."""
CLUSTER_AUTHORIZATION_FAILED, UNSUPPORTED_VERSION, INVALID_REQUEST = 31, 35, 42


class QuotasNotOffered(Refused):
    """The cluster does not offer quotas to this role, as some managed ones do not."""


class ClientQuotas:
    """Quotas of users, as one role.  Opens a connection for each request."""

    def __init__(self, connection: Connection, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    def of_users(self) -> Quotas:
        """Return the quotas of all users.

        Raises `QuotasNotOffered`, `Unavailable`, or `Refused` if the brokers refuse the role.
        """
        query = struct.pack(">i", 1) + string(USER) + struct.pack(">b", SPECIFIED)
        # Strict: no entity that has a client id besides its user.
        answer = self._ask(DESCRIBE, query + string(None) + b"\1")
        answer.read(">i")  # throttled for so long
        _check(answer.read(">h"), answer.string())
        found: dict[str, dict[str, float]] = {}
        for _ in range(max(0, answer.read(">i"))):
            entity = {answer.string(): answer.string() for _ in range(answer.read(">i"))}
            limits = range(answer.read(">i"))
            found[entity.get(USER, "")] = {answer.string(): answer.number() for _ in limits}
        return found

    def set_for_users(self, quotas: Quotas) -> None:
        """Set these limits and leave all others unchanged, in one request.  Raises as above."""
        body = struct.pack(">i", len(quotas))
        for user, values in quotas.items():
            body += struct.pack(">i", 1) + string(USER) + string(user)
            body += struct.pack(">i", len(values))
            for name, value in values.items():
                body += string(name) + struct.pack(">d", value) + b"\0"  # set, not remove
        answer = self._ask(ALTER, body + b"\0")  # not only validated
        answer.read(">i")
        for _ in range(answer.read(">i")):
            _check(answer.read(">h"), answer.string())
            for _ in range(answer.read(">i")):
                answer.string(), answer.string()

    def _ask(self, api: int, body: bytes) -> Answer:
        error: Exception = Unavailable("no brokers")
        identity = self._connection.identity
        for server in self._connection.cluster.bootstrap_servers:
            try:
                with connected(server, identity, timeout_s=self._timeout_s) as channel:
                    if api not in _offered(channel):
                        raise QuotasNotOffered("the cluster offers no client quotas")
                    return channel.request(api, body)
            except ssl.SSLCertVerificationError as refused:
                raise CertificateRefused(f"quotas: {refused.verify_message}") from refused
            except (OSError, struct.error) as failure:
                error = failure
        raise Unavailable("quotas: no answer of any broker") from error


def _offered(channel: BrokerChannel) -> set[int]:
    """Return the numbers of the requests that the broker answers in version 0."""
    answer = channel.request(API_VERSIONS, b"")
    _check(answer.read(">h"), "API versions")
    ranges = [
        (answer.read(">h"), answer.read(">h"), answer.read(">h")) for _ in range(answer.read(">i"))
    ]
    return {api for api, least, _ in ranges if least == 0}


def _check(error: int, reason: str) -> None:
    if error == CLUSTER_AUTHORIZATION_FAILED:
        raise NotAuthorized("quotas: the role may not see or change them")
    if error == UNSUPPORTED_VERSION:
        raise QuotasNotOffered("the cluster offers no client quotas")
    if error == INVALID_REQUEST:
        raise Refused(f"quotas: {reason}")
    if error:
        raise Unavailable(f"quotas: error {error} of the broker: {reason}")

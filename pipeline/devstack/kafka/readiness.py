"""Readiness of a broker: a TLS handshake, then a metadata request.

With TLS 1.3 a server's refusal of the client's certificate shows only when the client reads, so
a handshake alone does not prove that the broker accepts the client.
"""

import socket
import ssl
from pathlib import Path

from erasestream.pipeline.devstack.kafka.broker_config import BrokerConfig
from erasestream.schemas.errors import CertificateRefused, Unavailable
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection

_TIMEOUT_S = 5.0


def client_context(identities: Path, name: str) -> ssl.SSLContext:
    """Return a TLS 1.3 context for `name` that verifies chain and host name."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(identities / "ca.crt"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(identities / f"{name}.crt", identities / f"{name}.key")
    return context


def check_certificate(host: str, port: int, context: ssl.SSLContext) -> None:
    """Verify the certificate of the server at this address.

    Raises `ssl.SSLCertVerificationError` if it is not valid, another `OSError` if the server does
    not answer.
    """
    with (
        socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host),
    ):
        return


def brokers_in_service(bootstrap: str, identities: Path, name: str) -> frozenset[int]:
    """Return the ids of the brokers in service, as the cluster at this address reports them.

    Raises `Unavailable` if it does not answer within 5 s, `Refused` if it rejects the identity.
    """
    cluster = Cluster(bootstrap_servers=(bootstrap,), identities=identities)
    connection = Connection(cluster=cluster, role=Role(name))
    with Admin(connection, timeout_s=_TIMEOUT_S) as admin:
        return admin.broker_ids()


def is_in_service(
    config: BrokerConfig, identities: Path, name: str, context: ssl.SSLContext
) -> bool:
    """Return whether a broker, which has the identity `name`, accepts clients.

    Raises `CertificateRefused` if its certificate does not name its host.
    """
    try:
        # The controller's listener opens first; with a certificate that its peers refuse, the
        # client listener never opens.
        check_certificate(config.host, config.controller.port, context)
        check_certificate(config.host, config.port, context)
        in_service = brokers_in_service(config.bootstrap, identities, name)
    except ssl.SSLCertVerificationError as error:
        detail = f"the broker's own certificate: {error.verify_message}"
        raise CertificateRefused(detail) from error
    except (OSError, Unavailable):
        return False
    return config.node_id in in_service

"""Client configuration for one role and one cluster."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from erasestream.schemas.errors import Refused
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.sasl import Authentication
from erasestream.topics.kafka.tls import Identity, MinimumTls

Kind = TypeVar("Kind", bound=StrEnum)

Settings = dict[str, Any]
"""Settings of librdkafka, by their names there."""

QUEUE_KBYTES = 160_000
"""Bound of a client's queue, in kilobytes: two of the largest records."""
METADATA_S = 10.0
"""Interval at which a client looks for new partitions and moved leaders; librdkafka's is 300 s."""

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MAX_PORT = 65_535


@dataclass(frozen=True, init=False)
class Cluster:
    """Addresses of the brokers and the key service, and the folder with the identities.

    For these see `tls.py` and `sasl.py`.  One string is one address, or several with commas between
    them.  Raises `Refused` (misconfigured) for anything else, and asks no network.
    """

    bootstrap_servers: tuple[str, ...]
    identities: Path
    authentication: Authentication
    """How clients prove their role."""
    minimum_tls: MinimumTls
    oauth_extensions: Mapping[str, str]
    """Sent with a token, as some services demand."""
    key_endpoints: tuple[str, ...]
    """Replicas of the key service, `https://host:port`; without any, nothing is sealed."""

    def __init__(
        self,
        *,
        bootstrap_servers: str | Iterable[str],
        identities: str | os.PathLike[str],
        authentication: Authentication = Authentication.CERTIFICATE,
        minimum_tls: MinimumTls = MinimumTls.TLS_1_3,
        oauth_extensions: Mapping[str, str] | None = None,
        key_endpoints: str | Iterable[str] = (),
    ) -> None:
        object.__setattr__(self, "bootstrap_servers", _servers(bootstrap_servers))
        object.__setattr__(self, "identities", _folder(identities))
        object.__setattr__(self, "authentication", _one_of(Authentication, authentication))
        object.__setattr__(self, "minimum_tls", _one_of(MinimumTls, minimum_tls))
        object.__setattr__(self, "oauth_extensions", dict(oauth_extensions or {}))
        object.__setattr__(self, "key_endpoints", _key_endpoints(key_endpoints))


def parse_key_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port.  Raises `Refused` unless it is `https://host:port`."""
    match = _SERVER.fullmatch(endpoint.removeprefix("https://").removesuffix("/"))
    if match and endpoint.startswith("https://") and 0 < (port := int(match[2])) <= _MAX_PORT:
        return match[1].strip("[]"), port
    raise Refused("key_endpoints: an endpoint has the form https://host:port")


def _key_endpoints(given: str | Iterable[str]) -> tuple[str, ...]:
    endpoints = _addresses(given)
    if endpoints is None:
        raise Refused("key_endpoints: one or more https://host:port, or none")
    for each in endpoints:
        parse_key_endpoint(each)
    return endpoints


def _addresses(given: str | Iterable[str]) -> tuple[str, ...] | None:
    if isinstance(given, str):
        given = given.split(",")
    try:
        return tuple(address.strip() for address in given)
    except (AttributeError, TypeError):  # numbers, None, bytes
        return None


def _servers(given: str | Iterable[str]) -> tuple[str, ...]:
    servers = _addresses(given) or ()
    ports = [match and int(match[2]) for match in map(_SERVER.fullmatch, servers)]
    if not ports or not all(port and port <= _MAX_PORT for port in ports):
        raise Refused("bootstrap_servers: one or more host:port, such as kafka-1.example:9093")
    return servers


def _one_of(kinds: type[Kind], given: str) -> Kind:
    try:
        return kinds(given)
    except ValueError:
        raise Refused(f"no such setting: one of {', '.join(kinds)} is needed") from None


def _folder(given: str | os.PathLike[str]) -> Path:
    try:
        return Path(given)
    except TypeError:
        raise Refused("identities: the path of a folder") from None


class Connection:
    """Client settings of one role for one cluster.  Opens nothing."""

    def __init__(self, *, cluster: Cluster, role: Role) -> None:
        self.cluster = cluster
        self.role = role
        self.identity: Identity = Identity.load(
            cluster.identities,
            role,
            minimum_tls=cluster.minimum_tls,
            authentication=cluster.authentication,
            extensions=cluster.oauth_extensions,
        )

    def settings(self, errors: ClientErrorState, **more: object) -> Settings:
        """Return the settings of a client of this role; `more` with `_` for `.`.

        Reads the role's secret, so that a client that is opened later needs new settings.
        Raises `MissingCertificate` without the secret.
        """
        return {
            **self.identity.client_settings(),
            "bootstrap.servers": ",".join(self.cluster.bootstrap_servers),
            "client.id": self.role,
            "error_cb": errors,
            "log_level": 0,  # errors are reported through error_cb, once
            "socket.keepalive.enable": True,
            "topic.metadata.refresh.interval.ms": int(METADATA_S * 1000),
            "reconnect.backoff.max.ms": 2000,
            # Leave a broker that accepts connections and stays silent sooner than after 30 s.
            "socket.connection.setup.timeout.ms": 10_000,
            **{name.replace("_", "."): value for name, value in more.items()},
        }

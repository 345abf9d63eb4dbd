"""Client configuration for one role and one cluster."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasestream.schemas.errors import Refused
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.tls import Identity

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
    """Addresses of the brokers, and the folder with the identities (`tls.py`).

    One string is one `host:port`, or several with commas between them.  Raises `Refused`
    (misconfigured) for anything else, and asks no network.
    """

    bootstrap_servers: tuple[str, ...]
    identities: Path

    def __init__(
        self, *, bootstrap_servers: str | Iterable[str], identities: str | os.PathLike[str]
    ) -> None:
        object.__setattr__(self, "bootstrap_servers", _servers(bootstrap_servers))
        object.__setattr__(self, "identities", _folder(identities))


def _servers(given: str | Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        given = given.split(",")
    try:
        servers = tuple(server.strip() for server in given)
    except (AttributeError, TypeError):  # numbers, None, bytes
        servers = ()
    ports = [match and int(match[2]) for match in map(_SERVER.fullmatch, servers)]
    if not ports or not all(port and port <= _MAX_PORT for port in ports):
        raise Refused("bootstrap_servers: one or more host:port, such as kafka-1.example:9093")
    return servers


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
        self.identity: Identity = Identity.load(cluster.identities, role)

    def settings(self, errors: ClientErrorState, **more: object) -> Settings:
        """Return the settings of a client of this role; `more` with `_` for `.`."""
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

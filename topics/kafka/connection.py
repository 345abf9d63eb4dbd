"""Client configuration for one role and one cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.tls import Identity

Settings = dict[str, Any]
"""Settings of librdkafka, by their names there."""

QUEUE_KBYTES = 160_000
"""Bound of a client's queue, in kilobytes: two of the largest records."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Addresses of the brokers, and the folder with the identities (`tls.py`)."""

    bootstrap_servers: tuple[str, ...]
    identities: Path


class Connection:
    """Client settings of one role for one cluster.  Opens nothing."""

    def __init__(self, *, cluster: Cluster, role: Role) -> None:
        self.cluster = cluster
        self.role = role
        self.identity = Identity.load(cluster.identities, role)

    def settings(self, errors: ClientErrorState, **more: object) -> Settings:
        """Return the settings of a client of this role; `more` with `_` for `.`."""
        return {
            **self.identity.client_settings(),
            "bootstrap.servers": ",".join(self.cluster.bootstrap_servers),
            "client.id": self.role,
            "error_cb": errors,
            "log_level": 0,  # errors are reported through error_cb, once
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 2000,
            # Leave a broker that accepts connections and stays silent sooner than after 30 s.
            "socket.connection.setup.timeout.ms": 10_000,
            **{name.replace("_", "."): value for name, value in more.items()},
        }

"""Broker settings of the embedded stack, as a table.

Rules, all of them:

* TLS 1.3 with client certificates on every listener, controllers' included; there is no other,
  but for one that tests may add (`managed_listener.py`).
* Default deny: a role without an ACL has no access.  Only provisioning creates topics.
* The broker's clock stamps every record (`LogAppendTime`), never a producer's.
* No unclean leader election; replication and acknowledgements as the cluster's size allows.
* Every limit follows from the catalog's largest record; queues are bounded by bytes.

One node is the default; `cluster()` gives several, with at most three replicas.  A node may
have a second client listener that is reached through a proxy.  No I/O, no clock.
"""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from erasestream.pipeline.devstack.kafka.managed_listener import NAME, PROTOCOL, ManagedListener
from erasestream.schemas.errors import Refused
from erasestream.topics.catalog.catalog import Durability
from erasestream.topics.catalog.retention_budget import BrokerTimes
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES

MAX_REQUEST_BYTES = 104_857_600
"""Kafka's own default: one largest record and its overhead."""

MAX_QUEUED_BYTES = 2 * MAX_REQUEST_BYTES
"""Requests queued in the broker.  Kafka's own limit is 500 requests: 32 GB of ours."""

TLS_1_3_SUITES = "TLS_AES_256_GCM_SHA384,TLS_CHACHA20_POLY1305_SHA256,TLS_AES_128_GCM_SHA256"

OFFSETS_KEPT_MINUTES = 366 * 24 * 60
"""Committed offsets carry the replay marks; Kafka's default expires them after an idle week."""

_MAX_REPLICAS = 3


@dataclass(frozen=True, kw_only=True)
class Voter:
    """One controller of the cluster, and its address for its peers."""

    node_id: int
    port: int
    host: str = "127.0.0.1"
    directory_id: str

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class ProxiedListener:
    """A second listener for clients, on `port`, advertised as `advertised_port`.

    A proxy that forwards from the advertised port to `port` sits between broker and clients.
    """

    port: int
    advertised_port: int


@dataclass(frozen=True, kw_only=True)
class BrokerConfig:
    """One node, broker and controller in one process.  `single()` and `cluster()` make them.

    It listens on `host` and advertises it to clients; its certificate must name it.
    """

    node_id: int
    port: int
    cluster_id: str
    voters: tuple[Voter, ...]
    host: str = "127.0.0.1"
    durability: Durability = field(default_factory=lambda: Durability(replication=1, min_insync=1))
    times: BrokerTimes = field(default_factory=BrokerTimes)
    super_users: tuple[str, ...] = ("broker", "admin")
    system_partitions: int = 8
    """Partitions of each of Kafka's own topics.  Fixed once a cluster has started."""

    session_s: float = 9.0
    """Silence after which a broker is fenced; a killed broker can rejoin only after it."""

    proxied_listener: ProxiedListener | None = None
    managed_listener: ManagedListener | None = None

    @property
    def controller(self) -> Voter:
        """This node among the voters."""
        for voter in self.voters:
            if voter.node_id == self.node_id:
                return voter
        raise Refused(f"broker {self.node_id} is not among the voters of its cluster")

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"{self.host}:{self.port}"


def random_id(random: bytes) -> str:
    """Return an id in Kafka's notation, from 16 random bytes."""
    raw = uuid.UUID(bytes=random, version=4).bytes
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    # Kafka generates none that looks like a command's option.
    return f"A{text[1:]}" if text.startswith("-") else text


def single(
    *, port: int, controller_port: int, random: bytes, times: BrokerTimes | None = None
) -> BrokerConfig:
    """Return the only node of a cluster of one."""
    return cluster(ports=[(port, controller_port)], random=random, times=times)[0]


def cluster(
    *, ports: list[tuple[int, int]], random: bytes, times: BrokerTimes | None = None
) -> tuple[BrokerConfig, ...]:
    """Return one node per pair of ports (broker, controller), from 16 random bytes.

    Three replicas of every record and two to acknowledge it, or as many as there are nodes.
    """
    voters = tuple(
        Voter(
            node_id=node_id,
            port=controller,
            directory_id=random_id(uuid.uuid5(uuid.UUID(bytes=random), str(node_id)).bytes),
        )
        for node_id, (_, controller) in enumerate(ports, start=1)
    )
    replicas = min(len(ports), _MAX_REPLICAS)
    durability = Durability(replication=replicas, min_insync=max(1, replicas - 1))
    return tuple(
        BrokerConfig(
            node_id=node_id,
            port=port,
            cluster_id=random_id(random),
            voters=voters,
            durability=durability,
            times=times or BrokerTimes(),
            # Clients wait this long for the leader of a dead broker.  A single node's controller
            # is the same process, so it misreads no other broker's silence.
            session_s=3.0 if len(ports) == 1 else 4.0,
        )
        for node_id, (port, _) in enumerate(ports, start=1)
    )


def properties(
    config: BrokerConfig, *, data: Path, keystore: Path, truststore: Path
) -> dict[str, str]:
    """Return `server.properties`, with every entry that matters set explicitly."""
    return {
        **_network(config),
        **_security(config, keystore, truststore),
        **_limits(),
        **_deletion(config),
        **_replicas(config),
        "log.dirs": str(data),
    }


def render(entries: Mapping[str, str]) -> str:
    """Return the text of a properties file; only backslashes need escaping in ours."""
    escaped = ((key, value.replace("\\", "\\\\")) for key, value in sorted(entries.items()))
    return "".join(f"{key}={value}\n" for key, value in escaped)


def _network(config: BrokerConfig) -> dict[str, str]:
    listeners = {"BROKER": config.bootstrap}
    advertised = dict(listeners)
    if second := config.proxied_listener:
        listeners["SECOND"] = f"{config.host}:{second.port}"
        advertised["SECOND"] = f"{config.host}:{second.advertised_port}"
    managed: dict[str, str] = {}
    if third := config.managed_listener:
        listeners[NAME] = advertised[NAME] = f"{config.host}:{third.port}"
        managed = third.entries()
    listeners["CONTROLLER"] = config.controller.address
    protocols = dict.fromkeys(listeners, "SSL") | ({NAME: PROTOCOL} if managed else {})
    return {
        **managed,
        "process.roles": "broker,controller",
        "node.id": str(config.node_id),
        "controller.quorum.bootstrap.servers": ",".join(v.address for v in config.voters),
        "listeners": _addresses(listeners),
        "advertised.listeners": _addresses(advertised),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "BROKER",
        "listener.security.protocol.map": ",".join(map(":".join, protocols.items())),
        "broker.session.timeout.ms": str(int(config.session_s * 1000)),
        "broker.heartbeat.interval.ms": str(int(config.session_s * 1000) // 6),
        # Every half second, Kafka's default, takes a quarter of an idle broker's CPU time.
        "metadata.max.idle.interval.ms": "10000",
    }


def _addresses(listeners: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in listeners.items())


def _security(config: BrokerConfig, keystore: Path, truststore: Path) -> dict[str, str]:
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(truststore),
        "ssl.client.auth": "required",
        "ssl.endpoint.identification.algorithm": "https",
        "ssl.protocol": "TLSv1.3",
        "ssl.enabled.protocols": "TLSv1.3",
        "ssl.cipher.suites": TLS_1_3_SUITES,
        "ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/,DEFAULT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": ";".join(f"User:{name}" for name in config.super_users),
        "allow.everyone.if.no.acl.found": "false",
        "auto.create.topics.enable": "false",
    }


def _limits() -> dict[str, str]:
    return {
        "message.max.bytes": str(MAX_RECORD_BYTES),
        "replica.fetch.max.bytes": str(MAX_RECORD_BYTES),
        "replica.fetch.response.max.bytes": str(MAX_RECORD_BYTES),
        "fetch.max.bytes": str(MAX_RECORD_BYTES),
        "socket.request.max.bytes": str(MAX_REQUEST_BYTES),
        "queued.max.request.bytes": str(MAX_QUEUED_BYTES),
        # Kafka's default takes 128 MB of the heap; this holds the keys of 1.2 million decisions.
        "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
        "log.cleaner.threads": "1",
    }


def _deletion(config: BrokerConfig) -> dict[str, str]:
    return {
        "log.message.timestamp.type": "LogAppendTime",
        "log.retention.check.interval.ms": str(int(config.times.check_interval_s * 1000)),
        # The topic-level name, file.delete.delay.ms, is silently ignored here.
        "log.segment.delete.delay.ms": str(int(config.times.delete_delay_s * 1000)),
        "remote.log.storage.system.enable": "false",
        "offsets.retention.minutes": str(OFFSETS_KEPT_MINUTES),
    }


def _replicas(config: BrokerConfig) -> dict[str, str]:
    replication, min_insync = config.durability.replication, config.durability.min_insync
    entries = {
        "default.replication.factor": str(replication),
        "min.insync.replicas": str(min_insync),
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": str(replication),
        "offsets.topic.num.partitions": str(config.system_partitions),
        "group.initial.rebalance.delay.ms": "0",
    }
    for prefix in ("transaction.state.log", "share.coordinator.state.topic"):
        entries[f"{prefix}.replication.factor"] = str(replication)
        entries[f"{prefix}.min.isr"] = str(min_insync)
        entries[f"{prefix}.num.partitions"] = str(config.system_partitions)
    return entries

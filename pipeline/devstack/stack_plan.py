"""Ports, sizes and times of a stack: chosen once, stored in its folder as `stack.json`."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.pipeline.devstack.kafka.broker_config import (
    BrokerConfig,
    ProxiedListener,
    cluster,
)
from erasestream.pipeline.devstack.stack_files import GATEWAY_HOST, KEYS_HOST
from erasestream.pipeline.settings import LifetimeSettings
from erasestream.topics.catalog.retention_budget import BrokerTimes


class NodePorts(NamedTuple):
    """Ports of one node; the last two are those of its proxied listener."""

    broker: int
    controller: int
    proxied: int
    advertised: int


@dataclass(frozen=True, kw_only=True)
class StackPlan:
    """The decisions that a stack keeps for its lifetime."""

    nodes: tuple[NodePorts, ...]
    heap_mb: int
    java_options: tuple[str, ...] = ()
    bucket_port: int
    key_ports: tuple[int, ...]
    """Ports of the replicas of the key service."""
    gateway_port: int
    random: str
    """16 random bytes in hex, from which the cluster's ids derive."""
    check_interval_s: float
    delete_delay_s: float

    @classmethod
    def choose(
        cls,
        *,
        nodes: int,
        key_replicas: int,
        heap_mb: int,
        java_options: Sequence[str],
        lifetimes: LifetimeSettings,
    ) -> Self:
        """Choose free ports and random ids."""
        bucket_port, gateway_port, *ports = free_ports(2 + key_replicas + 4 * nodes)
        key_ports, ports = ports[:key_replicas], ports[key_replicas:]
        return cls(
            nodes=tuple(NodePorts(*ports[n : n + 4]) for n in range(0, len(ports), 4)),
            heap_mb=heap_mb,
            java_options=tuple(java_options),
            bucket_port=bucket_port,
            key_ports=tuple(key_ports),
            gateway_port=gateway_port,
            random=os.urandom(16).hex(),
            check_interval_s=lifetimes.check_interval.total_seconds(),
            delete_delay_s=lifetimes.delete_delay.total_seconds(),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan that `save` wrote."""
        entries = json.loads(path.read_text())
        nodes = tuple(NodePorts(*ports) for ports in entries.pop("nodes"))
        key_ports = tuple(entries.pop("key_ports"))
        return cls(nodes=nodes, key_ports=key_ports, **entries)

    @property
    def key_endpoints(self) -> tuple[str, ...]:
        """Addresses of the replicas of the key service."""
        return tuple(f"https://{KEYS_HOST}:{port}" for port in self.key_ports)

    @property
    def gateway_url(self) -> str:
        """Address of the gateway."""
        return f"https://{GATEWAY_HOST}:{self.gateway_port}"

    def save(self, path: Path) -> None:
        """Write the plan."""
        path.write_text(json.dumps(asdict(self)))

    def broker_configs(self) -> tuple[BrokerConfig, ...]:
        """Return the configuration of each node; those of a cluster have a proxied listener."""
        times = BrokerTimes(
            check_interval_s=self.check_interval_s, delete_delay_s=self.delete_delay_s
        )
        configs = cluster(
            ports=[(node.broker, node.controller) for node in self.nodes],
            random=bytes.fromhex(self.random),
            times=times,
        )
        if len(configs) == 1:
            return configs
        return tuple(
            replace(
                config,
                proxied_listener=ProxiedListener(
                    port=node.proxied, advertised_port=node.advertised
                ),
            )
            for config, node in zip(configs, self.nodes, strict=True)
        )

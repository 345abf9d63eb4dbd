"""A lane whose leader is lost waits alone; on three brokers, of which one is stopped."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka.admin import NewTopic

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.broker import Broker, free_ports
from erasestream.pipeline.devstack.kafka.broker_config import cluster
from erasestream.pipeline.devstack.kafka.distribution import install_kafka
from erasestream.pipeline.devstack.kafka.java_launcher import SHORT_LIVED
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.consumer.grouped_ends import GroupedEnds
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.paths import CACHE

NEVER_S = 3600.0
LED_BY = {"first": 1, "second": 2, "third": 3}
"""Groups of one partition each, and the only broker that has it."""
GROUPS = {name: [Partition(name, 0)] for name in LED_BY}
ALL = {name: {at: 0} for name, (at,) in GROUPS.items()}


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[list[Broker]]:
    identities = tmp_path / "identities"
    identities.mkdir()
    authority = CertificateAuthority.create(tmp_path / "ca", now=lambda: datetime.now(UTC))
    authority.issue_broker("broker", identities)
    authority.issue_role(ADMIN, identities)
    ports = free_ports(6)
    libs = install_kafka(CACHE, print)
    configs = cluster(ports=list(zip(ports[:3], ports[3:], strict=True)), random=os.urandom(16))
    brokers = [
        Broker(tmp_path / f"broker-{n}", identities, libs, config=each, java_options=SHORT_LIVED)
        for n, each in enumerate(configs, start=1)
    ]
    with ThreadPoolExecutor(3) as threads:
        try:
            list(threads.map(Broker.start, brokers))
            yield brokers
        finally:
            list(threads.map(Broker.stop, brokers))


def test_a_group_without_a_leader_delays_no_other(brokers: list[Broker], tmp_path: Path) -> None:
    """Nothing waits for it: no timeout ends here; it is back once its leader is."""
    servers = tuple(broker.bootstrap for broker in brokers)
    reached = Cluster(bootstrap_servers=servers, identities=tmp_path / "identities")
    with Admin(Connection(cluster=reached, role=ADMIN)) as admin:
        topics = [
            NewTopic(name, replica_assignment=[[node]], num_partitions=1)
            for name, node in LED_BY.items()
        ]
        with admin.use() as client:
            for created in client.create_topics(topics).values():
                created.result(20)
        ends = GroupedEnds(admin, GROUPS)
        eventually("all are known", lambda: ends.ask(LED_BY, timeout_s=5) == ALL)

        brokers[2].stop()
        eventually("it is slow", lambda: "third" not in ends.ask(LED_BY, timeout_s=NEVER_S))
        assert ends.ask(["third"], timeout_s=NEVER_S) == {}
        alive = {name: ALL[name] for name in ("first", "second")}
        eventually("the others are known", lambda: ends.ask(LED_BY, timeout_s=NEVER_S) == alive)

        brokers[2].start()
        eventually("all are known again", lambda: ends.ask(LED_BY, timeout_s=5) == ALL)

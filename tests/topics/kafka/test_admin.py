"""Requests to the brokers: their timeouts, and that every client is closed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.schemas.errors import ClientClosed, Unavailable
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka import admin as admin_module
from erasestream.topics.kafka import offset_queries
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.kafka_fixture import KafkaFixture
from tests.leaks import assert_no_leak, baseline, no_leak

AT = Partition("uploads.any", 0)
NEVER_S = 3600.0
"""Longer than a test may take: what waits for it fails the test."""


@pytest.fixture
def unreachable(tmp_path: Path) -> Iterator[Connection]:
    """Return the administrator's connection to a port without a listener."""
    authority = CertificateAuthority.create(tmp_path / "ca", now=lambda: datetime.now(UTC))
    identities = tmp_path / "identities"
    identities.mkdir()
    authority.issue_role(ADMIN, identities)
    (port,) = free_ports(1)
    cluster = Cluster(bootstrap_servers=(f"127.0.0.1:{port}",), identities=identities)
    with no_leak():
        yield Connection(cluster=cluster, role=ADMIN)


class RecordingClient(AdminClient):
    """The library's client; it records the timeouts of `list_topics`."""

    timeouts_s: list[float]

    def list_topics(self, *arguments: Any, **named: Any) -> Any:
        self.timeouts_s.append(named["timeout"])
        return super().list_topics(*arguments, **named)


def test_partition_counts_waits_for_the_instances_timeout(
    unreachable: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    RecordingClient.timeouts_s = []
    monkeypatch.setattr(admin_module, "AdminClient", RecordingClient)
    with Admin(unreachable, timeout_s=0.25) as admin, pytest.raises(Unavailable):
        admin.partition_counts()
    assert RecordingClient.timeouts_s == [0.25]


def test_a_timeout_of_zero_waits_for_nothing(unreachable: Connection) -> None:
    with Admin(unreachable, timeout_s=NEVER_S) as admin:
        offsets = OffsetQueries(admin)
        with pytest.raises(Unavailable):
            offsets.log_ends([AT], timeout_s=0)
        assert offsets.known_log_ends([AT], timeout_s=0) == {}
    with Admin(unreachable, timeout_s=0) as admin, pytest.raises(Unavailable):
        OffsetQueries(admin).log_end(AT)


def test_a_client_whose_answer_is_late_keeps_its_connection(
    unreachable: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one would have to connect first, and on a slow machine be as late each time."""
    with Admin(unreachable) as admin:
        offsets = OffsetQueries(admin)
        with admin.use() as first:
            for _ in range(3):
                assert offsets.known_log_ends([AT], timeout_s=0) == {}
        with admin.use() as client:
            assert client is first
        monkeypatch.setattr(offset_queries, "ANSWER_S", 0)
        assert offsets.known_log_ends([AT], timeout_s=0) == {}
        with admin.use() as client:
            assert client is not first, "it has been silent for too long"


def test_group_offsets_end_with_the_timeout(unreachable: Connection) -> None:
    groups = GroupOffsets(unreachable, timeout_s=0)
    with pytest.raises(Unavailable, match="no answer"):
        groups.check("router", AT)


def test_without_partitions_no_group_offset_is_requested(unreachable: Connection) -> None:
    assert GroupOffsets(unreachable, timeout_s=NEVER_S).committed("router", []) == {}


def test_a_closed_admin_client_makes_no_request(unreachable: Connection) -> None:
    admin = Admin(unreachable)
    admin.close()
    admin.close()
    with pytest.raises(ClientClosed):
        admin.partition_counts()


def test_a_client_that_failed_is_replaced_and_closed(unreachable: Connection) -> None:
    with Admin(unreachable, timeout_s=0) as admin:
        offsets = OffsetQueries(admin)
        with admin.use() as first:
            pass
        for _ in range(5):
            with pytest.raises(Unavailable):
                offsets.log_end(AT)
        with admin.use() as now:
            assert now is not first
        assert_closed(first)


def assert_closed(client: AdminClient) -> None:
    with pytest.raises(RuntimeError, match="closed"):
        client.poll(0)


def test_a_request_is_answered_by_its_client_though_that_is_replaced(kafka: KafkaFixture) -> None:
    with kafka.admin as admin:
        with admin.use() as client:
            admin.reconnect(client)
            with admin.use() as other:
                assert other is not client
            assert client.list_topics(timeout=20).topics.keys() == admin.partition_counts().keys()
        assert_closed(client)


def test_a_renewed_certificate_replaces_and_closes_the_client(
    kafka: KafkaFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_every_use = partial(CertificateWatcher, look_every_s=0)
    monkeypatch.setattr(admin_module, "CertificateWatcher", at_every_use)
    with kafka.admin as admin:
        with admin.use() as first:
            pass
        kafka.authority.issue_role(ADMIN, kafka.identities)
        with admin.use() as second:
            assert second is not first
        assert_closed(first)
        admin.partition_counts()


def test_threads_ask_while_the_client_is_replaced(kafka: KafkaFixture) -> None:
    """No request fails, and none ends the process, although its client is replaced meanwhile."""
    with kafka.admin as admin, ThreadPoolExecutor(4) as threads:

        def ask(number: int) -> None:
            for turn in range(12):
                admin.partition_counts()
                if turn % 4 == number:
                    with admin.use() as client:
                        admin.reconnect(client)

        list(threads.map(ask, range(4)))


def test_nothing_of_an_admin_client_stays_open(kafka: KafkaFixture) -> None:
    before = baseline()
    with kafka.admin as admin:
        admin.partition_counts()
    assert_no_leak(before)


def test_group_offsets_leave_nothing_open(kafka: KafkaFixture) -> None:
    before = baseline()
    kafka.groups.check("router", AT)
    assert_no_leak(before)

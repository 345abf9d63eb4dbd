"""The table of settings: what must never be missing, for one node and for three."""

from dataclasses import replace
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.kafka.broker_config import (
    MAX_QUEUED_BYTES,
    MAX_REQUEST_BYTES,
    BrokerConfig,
    SecondWay,
    cluster,
    properties,
    render,
    single,
)
from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.catalog.retention_budget import BrokerTimes
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES

SEED = bytes(range(16))
THREE = [(9001, 9101), (9002, 9102), (9003, 9103)]


def entries(config: BrokerConfig) -> dict[str, str]:
    """Its properties."""
    return properties(config, data=Path("/d"), keystore=Path("/k"), truststore=Path("/t"))


def one(times: BrokerTimes | None = None) -> dict[str, str]:
    """Properties of a cluster of one."""
    return entries(single(port=9001, controller_port=9101, random=SEED, times=times))


def test_no_plaintext() -> None:
    """Every listener that exists is TLS 1.3 with client certificates."""
    found = one()
    listeners = {part.partition("://")[0] for part in found["listeners"].split(",")}
    protocols = dict(p.split(":") for p in found["listener.security.protocol.map"].split(","))
    assert protocols == dict.fromkeys(listeners, "SSL")
    assert found["ssl.enabled.protocols"] == "TLSv1.3"
    assert found["ssl.client.auth"] == "required"
    assert all("GCM" in s or "POLY1305" in s for s in found["ssl.cipher.suites"].split(","))


def test_default_deny() -> None:
    """Nobody may do what no ACL allows, and nobody makes a topic by naming it."""
    found = one()
    assert found["allow.everyone.if.no.acl.found"] == "false"
    assert found["auto.create.topics.enable"] == "false"
    assert found["authorizer.class.name"].endswith("StandardAuthorizer")
    assert found["super.users"] == "User:broker;User:admin"


def test_times() -> None:
    """The times that the deletion formula counts with are those of the broker."""
    found = one(BrokerTimes(check_interval_s=1.5, delete_delay_s=0.25))
    assert found["log.retention.check.interval.ms"] == "1500"
    assert found["log.segment.delete.delay.ms"] == "250"
    assert found["log.message.timestamp.type"] == "LogAppendTime"


def test_limits_fit_the_catalog() -> None:
    """Every topic's largest record passes each limit, and a request can hold it."""
    catalog = Catalog.build((LaneSpec(name=Lane("shop")),))
    largest = max(topic.max_record_bytes for topic in catalog.topics)
    assert largest == MAX_RECORD_BYTES
    found = one()
    for name in ("message.max.bytes", "replica.fetch.max.bytes", "fetch.max.bytes"):
        assert int(found[name]) >= largest
    assert largest < MAX_REQUEST_BYTES <= MAX_QUEUED_BYTES


def test_copies_of_one() -> None:
    """One node asks for no copies that nobody could hold."""
    found = one()
    assert {found[name] for name in found if name.endswith("replication.factor")} == {"1"}
    assert {found[name] for name in found if name.endswith(("min.isr", "replicas"))} == {"1"}


def test_copies_of_three() -> None:
    """Three nodes hold three copies, two acknowledge, and all know the same voters."""
    configs = cluster(ports=THREE, random=SEED)
    tables = [entries(config) for config in configs]
    for found in tables:
        assert {found[name] for name in found if name.endswith("replication.factor")} == {"3"}
        assert {found[name] for name in found if name.endswith(("min.isr", "replicas"))} == {"2"}
        assert found["unclean.leader.election.enable"] == "false"
    assert len({found["controller.quorum.bootstrap.servers"] for found in tables}) == 1
    assert len({found["node.id"] for found in tables}) == 3
    assert len({found["listeners"] for found in tables}) == 3
    assert len({voter.directory_id for voter in configs[0].voters}) == 3
    assert len({config.cluster_id for config in configs}) == 1


def test_second_way() -> None:
    """Another way in is mutual TLS like the first, and told by the port of who forwards."""
    config = replace(
        cluster(ports=THREE, random=SEED)[1],
        second_way=SecondWay(port=9302, advertised_port=9402),
    )
    found = entries(config)
    assert "SECOND://127.0.0.1:9302" in found["listeners"]
    assert "SECOND://127.0.0.1:9402" in found["advertised.listeners"]
    protocols = dict(p.split(":") for p in found["listener.security.protocol.map"].split(","))
    assert protocols == dict.fromkeys(("BROKER", "SECOND", "CONTROLLER"), "SSL")
    assert found["ssl.client.auth"] == "required"


def test_not_a_voter() -> None:
    """A node that its own cluster does not know is refused."""
    config = BrokerConfig(
        node_id=7, port=1, cluster_id="c", voters=cluster(ports=THREE, random=SEED)[0].voters
    )
    with pytest.raises(Refused, match="broker 7"):
        entries(config)


def test_render() -> None:
    """The file is sorted, and a backslash stays one."""
    assert render({"b": r"x\y", "a": "1"}) == "a=1\nb=x\\\\y\n"

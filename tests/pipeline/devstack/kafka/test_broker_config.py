"""Settings that must never be missing, for one node and for three."""

from dataclasses import replace
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.kafka.broker_config import (
    MAX_QUEUED_BYTES,
    MAX_REQUEST_BYTES,
    BrokerConfig,
    ProxiedListener,
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
    return properties(config, data=Path("/d"), keystore=Path("/k"), truststore=Path("/t"))


def one(times: BrokerTimes | None = None) -> dict[str, str]:
    return entries(single(port=9001, controller_port=9101, random=SEED, times=times))


def test_every_listener_is_tls_1_3_with_client_certificates() -> None:
    found = one()
    listeners = {part.partition("://")[0] for part in found["listeners"].split(",")}
    protocols = dict(p.split(":") for p in found["listener.security.protocol.map"].split(","))
    assert protocols == dict.fromkeys(listeners, "SSL")
    assert found["ssl.enabled.protocols"] == "TLSv1.3"
    assert found["ssl.client.auth"] == "required"
    assert all("GCM" in s or "POLY1305" in s for s in found["ssl.cipher.suites"].split(","))


def test_access_is_denied_by_default_and_topics_are_not_auto_created() -> None:
    found = one()
    assert found["allow.everyone.if.no.acl.found"] == "false"
    assert found["auto.create.topics.enable"] == "false"
    assert found["authorizer.class.name"].endswith("StandardAuthorizer")
    assert found["super.users"] == "User:broker;User:admin"


def test_the_broker_gets_the_times_of_the_retention_budget() -> None:
    found = one(BrokerTimes(check_interval_s=1.5, delete_delay_s=0.25))
    assert found["log.retention.check.interval.ms"] == "1500"
    assert found["log.segment.delete.delay.ms"] == "250"
    assert found["log.message.timestamp.type"] == "LogAppendTime"


def test_the_largest_record_passes_each_limit_and_fits_into_a_request() -> None:
    catalog = Catalog.build((LaneSpec(name=Lane("shop")),))
    largest = max(topic.max_record_bytes for topic in catalog.topics)
    assert largest == MAX_RECORD_BYTES
    found = one()
    for name in ("message.max.bytes", "replica.fetch.max.bytes", "fetch.max.bytes"):
        assert int(found[name]) >= largest
    assert largest < MAX_REQUEST_BYTES <= MAX_QUEUED_BYTES


def test_a_single_node_has_one_replica_of_everything() -> None:
    found = one()
    assert {found[name] for name in found if name.endswith("replication.factor")} == {"1"}
    assert {found[name] for name in found if name.endswith(("min.isr", "replicas"))} == {"1"}


def test_three_nodes_hold_three_replicas_and_know_the_same_voters() -> None:
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


def test_the_proxied_listener_uses_mutual_tls_and_advertises_the_proxy() -> None:
    config = replace(
        cluster(ports=THREE, random=SEED)[1],
        proxied_listener=ProxiedListener(port=9302, advertised_port=9402),
    )
    found = entries(config)
    assert "SECOND://127.0.0.1:9302" in found["listeners"]
    assert "SECOND://127.0.0.1:9402" in found["advertised.listeners"]
    protocols = dict(p.split(":") for p in found["listener.security.protocol.map"].split(","))
    assert protocols == dict.fromkeys(("BROKER", "SECOND", "CONTROLLER"), "SSL")
    assert found["ssl.client.auth"] == "required"


def test_a_node_that_is_not_a_voter_is_refused() -> None:
    config = BrokerConfig(
        node_id=7, port=1, cluster_id="c", voters=cluster(ports=THREE, random=SEED)[0].voters
    )
    with pytest.raises(Refused, match="broker 7"):
        entries(config)


def test_rendered_properties_are_sorted_and_escaped() -> None:
    assert render({"b": r"x\y", "a": "1"}) == "a=1\nb=x\\\\y\n"

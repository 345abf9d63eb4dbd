"""Checks of a cluster by provisioning, and its way with settings that are fixed."""

import pytest

from erasestream.schemas.errors import PromiseExceeded
from erasestream.schemas.ids import Lane
from erasestream.topics.admin import cluster_checks
from erasestream.topics.admin.cluster_checks import (
    DEFAULT_DENY,
    NEVER_VISIBLE,
    ClusterReport,
    SetBrokerConfig,
    check_cluster,
)
from erasestream.topics.admin.default_deny import UNNAMED_TOPIC, is_denied_by_default
from erasestream.topics.admin.provisioning import apply
from erasestream.topics.admin.provisioning_plan import CreateTopic, SetConfig
from erasestream.topics.catalog import compression
from erasestream.topics.catalog.acl import Operation, Resource, Right
from erasestream.topics.catalog.catalog import Catalog, Durability, LaneSpec
from erasestream.topics.catalog.retention_budget import BrokerTimes, Policy
from erasestream.topics.catalog.roles import ADMIN, INFERENCE, Role
from erasestream.topics.catalog.topic_names import consent_of, uploads_of
from erasestream.topics.kafka.acl_bindings import binding_of, exactly
from erasestream.topics.kafka.broker_settings import BrokerSetting, set_broker_setting
from erasestream.topics.kafka.topic_admin import Setting, topic_settings
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture

DELAY = "log.segment.delete.delay.ms"
FIXED = "brotli"
"""No compression of Kafka's: the broker refuses it, as a service refuses what it has fixed."""


def report_of(kafka: KafkaFixture, lane: Lane) -> ClusterReport:
    with kafka.admin as admin:
        return check_cluster(admin, kafka.catalog_of(lane), [uploads_of(lane)])


def catalog_with(name: str, policy: Policy | None = None) -> Catalog:
    return Catalog.build(
        (LaneSpec(name=Lane(name), partitions=1),),
        policy=policy,
        durability=Durability(replication=1, min_insync=1),
        consent_partitions=1,
        history_partitions=1,
    )


def test_the_embedded_broker_lacks_nothing_and_invisible_settings_are_listed(
    kafka: KafkaFixture, lane: Lane
) -> None:
    report = report_of(kafka, lane)
    assert (report.changes, report.shortfalls) == ((), ())
    assert set(NEVER_VISIBLE) <= set(report.unseen)
    # Kafka shows no value of settings that its authorizer alone knows, but their effect.
    assert not any(DEFAULT_DENY in line for line in report.unseen)


def test_brokers_that_allow_what_no_rule_names_are_reported(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """A rule that is not ours lets one role see the topic, as brokers without default deny do."""
    seen = binding_of(Right(INFERENCE, Operation.DESCRIBE, Resource.TOPIC, UNNAMED_TOPIC))
    with kafka.admin_client() as client:
        client.create_acls([seen])[seen].result()
        try:
            eventually("the report", lambda: report_of(kafka, lane).shortfalls)
            (line,) = report_of(kafka, lane).shortfalls
            assert line == f"{DEFAULT_DENY} must be false: strangers may use what no rule names"
        finally:
            for deleted in client.delete_acls([exactly(seen)]).values():
                deleted.result()
    eventually("it is denied", lambda: is_denied_by_default(kafka.cluster, [ADMIN, INFERENCE]))


def test_the_default_is_not_known_without_another_roles_identity(kafka: KafkaFixture) -> None:
    """The administrator may do everything."""
    assert is_denied_by_default(kafka.cluster, [ADMIN, Role("nobody")]) is None


def test_a_setting_of_running_brokers_is_corrected(kafka: KafkaFixture, lane: Lane) -> None:
    with kafka.admin as admin:
        set_broker_setting(admin, DELAY, "600000")
        eventually("the delay is too long", lambda: report_of(kafka, lane).changes)
        (change,) = report_of(kafka, lane).changes
        assert change == SetBrokerConfig(DELAY, "600000", "60000")
        apply(admin, kafka.catalog_of(lane), [change])
        eventually("the delay is right", lambda: not report_of(kafka, lane).changes)


def test_a_setting_that_only_a_restart_changes_is_reported(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_checks, "OFFSETS_KEPT_MINUTES", 2_000_000)
    report = report_of(kafka, lane)
    assert report.changes == ()
    (line,) = report.shortfalls
    assert line.startswith("offsets.retention.minutes is 527040 and must be 2000000: an idle lane")


def test_tiered_storage_of_an_image_topic_is_named() -> None:
    tiered = {"remote.storage.enable": Setting("true", is_own=True)}
    local = {"remote.storage.enable": Setting("false", is_own=False)}
    lines = cluster_checks._tiered(["uploads.a", "uploads.b"], [tiered, local])
    assert list(lines) == [
        "remote.storage.enable of uploads.a is true: a copy of each image outlives its topic"
    ]


def test_a_listener_without_tls_is_named() -> None:
    """Only one that is open: the default map has names of all protocols."""
    broker = {
        "listeners": BrokerSetting("TLS://:9093,OPEN://:9092", is_read_only=False),
        "listener.security.protocol.map": BrokerSetting(
            "TLS:SSL,OPEN:SASL_PLAINTEXT,PLAINTEXT:PLAINTEXT", is_read_only=False
        ),
    }
    lines = list(cluster_checks._plaintext([broker]))
    assert lines == ["the listener OPEN is SASL_PLAINTEXT: images travel unencrypted"]


def test_a_setting_that_is_fixed_is_left_and_reported(
    kafka: KafkaFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The topic is created with all others, and later runs report the same."""
    monkeypatch.setattr(compression, "JSON", FIXED)
    catalog = catalog_with("fixed-setting")
    topic = catalog[consent_of(Lane("fixed-setting"))]
    kept = SetConfig(topic.name, "compression.type", "producer", FIXED)
    with kafka.admin as admin:
        try:
            assert apply(admin, catalog, [CreateTopic(topic)]) == (kept,)
            eventually("the topic is there", lambda: topic.name in admin.partition_counts())
            (settings,) = topic_settings(admin, [topic.name])
            own = {name: each.value for name, each in settings.items() if each.is_own}
            declared = dict(catalog.config(topic))
            del declared["compression.type"]
            assert own == declared
            assert apply(admin, catalog, [kept]) == (kept,)
        finally:
            kafka.delete_topic(topic.name)


def test_a_fixed_time_that_exceeds_the_promise_is_refused(kafka: KafkaFixture) -> None:
    """Before any right is granted."""
    impossible = Policy(broker=BrokerTimes(delete_delay_s=-0.001))
    catalog = catalog_with("fixed-time", impossible)
    topic = catalog[uploads_of(Lane("fixed-time"))]
    with kafka.admin as admin:
        try:
            with pytest.raises(PromiseExceeded, match=r"file\.delete\.delay\.ms at 60000"):
                apply(admin, catalog, [CreateTopic(topic)])
        finally:
            kafka.delete_topic(topic.name)

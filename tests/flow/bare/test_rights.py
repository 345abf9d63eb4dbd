"""Rights of each role, tried against the real broker: exactly those of the catalog."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import (
    ADMIN,
    INFERENCE,
    ROUTER,
    SINK,
    STAGE_ROLES,
    LaneRole,
    Role,
    lane_role,
)
from erasestream.topics.catalog.topic import Topic
from erasestream.topics.catalog.topic_names import (
    LEDGER,
    RETAINED,
    consent_of,
    cutouts_of,
    ephemeral_of,
    uploads_of,
)
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection
from tests.flow.acl_probe import Access, AclProbe
from tests.flow.pipeline_harness import BULK, PARTITIONS, SHOP, PipelineHarness

LANES = tuple(PARTITIONS)
ROLES = tuple(
    role
    for role in (*STAGE_ROLES, *(lane_role(lane, role) for lane in LANES for role in LaneRole))
    if role != ADMIN
)


def expected(topics: tuple[Topic, ...], role: Role, list_of: str) -> dict[str, Access]:
    """Return the access that the catalog gives this role to each topic."""
    return {
        topic.name: Access.ALLOWED if role in getattr(topic, list_of) else Access.REFUSED
        for topic in topics
    }


@pytest.mark.parametrize("role", ROLES)
def test_role_can_write_read_and_delete_as_the_catalog_allows(
    bare: PipelineHarness, role: Role
) -> None:
    topics = bare.stack.catalog().topics
    names = [topic.name for topic in topics]
    probe = AclProbe(bare.stack.cluster, role)
    assert probe.write(names) == expected(topics, role, "writers")
    assert probe.read(names) == expected(topics, role, "readers")
    assert probe.delete(names) == expected(topics, role, "purgers")


def test_catalog_grants_the_expected_rights(bare: PipelineHarness) -> None:
    """The catalog names the expected writers and readers, and no lane in another lane's topics."""
    catalog = bare.stack.catalog()
    assert {role for role in catalog.roles if role != ADMIN} == set(ROLES)
    for lane in LANES:
        rows = {
            uploads_of(lane): ({f"{lane}.producer"}, {INFERENCE, ROUTER}),
            cutouts_of(lane): ({INFERENCE}, {ROUTER}),
            ephemeral_of(lane): ({ROUTER}, {f"{lane}.consumer"}),
        }
        for name, (writers, readers) in rows.items():
            assert (set(catalog[name].writers), set(catalog[name].readers)) == (writers, readers)
    assert (set(catalog[RETAINED].writers), set(catalog[RETAINED].readers)) == ({ROUTER}, {SINK})
    for lane, topic in itertools.product(LANES, catalog.topics):
        if topic.name.partition(".")[2] not in (lane, ""):
            roles = {*topic.writers, *topic.readers, *topic.purgers}
            assert not {lane_role(lane, role) for role in LaneRole} & roles


@pytest.mark.parametrize(
    ("role", "topic", "group", "access"),
    [
        ("shop.consumer", ephemeral_of(SHOP), "shop.consumer.mine", Access.ALLOWED),
        ("shop.consumer", ephemeral_of(SHOP), "bulk.consumer.theirs", Access.REFUSED),
        ("shop.consumer", ephemeral_of(SHOP), "router", Access.REFUSED),
        ("sink", RETAINED, "sink", Access.ALLOWED),
        ("sink", RETAINED, "router", Access.REFUSED),
        ("inference", uploads_of(SHOP), "router", Access.REFUSED),
        ("bulk.account", consent_of(BULK), "inference", Access.REFUSED),
    ],
)
def test_role_joins_only_its_own_groups(
    bare: PipelineHarness, role: str, topic: str, group: str, access: Access
) -> None:
    """So no client can take partitions from a stage or from another lane's readers."""
    assert AclProbe(bare.stack.cluster, Role(role)).join(group, topic) is access


@pytest.mark.parametrize("role", [role for role in ROLES if role != ROUTER])
def test_only_the_router_may_fence_the_router(bare: PipelineHarness, role: Role) -> None:
    assert AclProbe(bare.stack.cluster, role).begin_transactions("router.1") is Access.REFUSED


def test_router_may_use_its_own_transactional_ids(bare: PipelineHarness) -> None:
    probe = AclProbe(bare.stack.cluster, ROUTER)
    assert probe.begin_transactions("router.9") is Access.ALLOWED
    assert probe.begin_transactions("another") is Access.REFUSED


@pytest.mark.parametrize("role", ROLES)
def test_only_the_administrator_changes_the_cluster(bare: PipelineHarness, role: Role) -> None:
    """No other role creates or deletes topics, or changes their settings."""
    entry = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ConfigResource.Type.TOPIC, LEDGER, incremental_configs=[entry])
    connection = Connection(cluster=bare.stack.cluster, role=role)
    with Admin(connection) as admin, admin.use() as client:
        attempts = [
            *client.create_topics([NewTopic("mine", 1, 1)]).values(),
            *client.delete_topics([LEDGER]).values(),
            *client.incremental_alter_configs([changed]).values(),
        ]
        for attempt in attempts:
            with pytest.raises(KafkaException, match=r"(?i)authori[sz]"):
                attempt.result(20)


@pytest.fixture
def impostor(bare: PipelineHarness, tmp_path: Path) -> Cluster:
    """Return a cluster whose identities for lane `bulk` are really those of lane `shop`."""
    identities = bare.stack.files.identities
    for name in ("ca.crt", *(f"bulk.{role}.{end}" for role in LaneRole for end in ("crt", "key"))):
        (tmp_path / name).symlink_to(identities / name.replace("bulk", "shop"))
    return Cluster(bootstrap_servers=bare.stack.cluster.bootstrap_servers, identities=tmp_path)


def test_refusal_names_role_and_topic(impostor: Cluster) -> None:
    """Our client libraries report which role may not use which topic."""
    attempts: dict[str, Callable[[], object]] = {
        uploads_of(BULK): lambda: UploadProducer(impostor, BULK),
        ephemeral_of(BULK): lambda: ResultSubscription(impostor, BULK, group="mine"),
        consent_of(BULK): lambda: ConsentWriter(
            connection=Connection(cluster=impostor, role=lane_role(BULK, LaneRole.ACCOUNT)),
            lane=BULK,
        ),
    }
    for topic, attempt in attempts.items():
        with pytest.raises(Refused, match=re.escape(topic)) as caught:
            attempt()
        assert caught.value.code is Code.NOT_AUTHORIZED
        assert "role bulk." in caught.value.sentence


def test_unknown_lane_has_no_certificate(bare: PipelineHarness) -> None:
    with pytest.raises(Refused, match=r"other\.producer\.crt") as caught:
        UploadProducer(bare.stack.cluster, Lane("other"))
    assert caught.value.code is Code.MISSING_CERTIFICATE

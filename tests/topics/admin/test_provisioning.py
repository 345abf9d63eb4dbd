"""Provisioning: foreign access rules stay, quotas are set, and what is applied is in effect."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from erasestream.schemas.errors import NotAuthorized
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.admin.provisioning_plan import Plan, plan
from erasestream.topics.admin.quota_plan import SetQuota, plan_quotas
from erasestream.topics.catalog.acl import rights
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.quotas import PRODUCE, REQUESTS, LaneQuota
from erasestream.topics.catalog.roles import AUDITOR, ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.acl_bindings import EVERY_BINDING, exactly
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.client_quotas import ClientQuotas
from tests.flow.waiting import eventually
from tests.kafka_administration import rights_in_effect
from tests.kafka_fixture import KafkaFixture
from tests.raw_kafka import RawKafka, batch, record

ALLOW, DENY = AclPermissionType.ALLOW, AclPermissionType.DENY


def rule(
    principal: str, permission: AclPermissionType, topic: str, *, host: str = "*"
) -> AclBinding:
    """Return a rule about reading a topic."""
    literal, read = ResourcePatternType.LITERAL, AclOperation.READ
    return AclBinding(
        ResourceType.TOPIC, topic, literal, f"User:{principal}", host, read, permission
    )


@contextmanager
def rules(kafka: KafkaFixture, *bindings: AclBinding) -> Iterator[None]:
    """Create rules beside those of the catalog, and delete them again."""
    with kafka.admin_client() as client:
        for created in client.create_acls(list(bindings)).values():
            created.result(20)
        eventually("the rules are in effect", lambda: set(bindings) <= rules_in_effect(kafka))
        try:
            yield
        finally:
            for deleted in client.delete_acls([exactly(each) for each in bindings]).values():
                deleted.result(20)
            eventually("they are gone", lambda: not set(bindings) & rules_in_effect(kafka))


def rules_in_effect(kafka: KafkaFixture) -> set[AclBinding]:
    """Return the rules that the broker enforces; it acknowledges a change before it does."""
    with kafka.admin_client() as client:
        return set(client.describe_acls(EVERY_BINDING).result(20))


def provisioned(kafka: KafkaFixture, catalog: Catalog) -> Plan:
    """Provision, and return the plan as it was shown."""
    shown: list[Plan] = []
    with kafka.admin as admin:
        provision(admin, catalog, show=shown.append)
    return shown[-1]


def test_foreign_rules_stay_and_are_shown(kafka: KafkaFixture, lane: Lane) -> None:
    """Those of other principals, and a DENY with which an operator blocks a role of ours."""
    topic = uploads_of(lane)
    foreign = (
        rule("backup", ALLOW, topic),
        rule("backup", DENY, f"other-{lane}"),
        rule(lane_role(lane, LaneRole.CONSUMER), DENY, topic),
    )
    with rules(kafka, *foreign):
        with kafka.admin as admin:
            lines = plan(admin, kafka.catalog()).foreign_rules
        assert f"User:backup allow read topic {topic}" in lines
        assert f"User:backup deny read topic other-{lane}" in lines
        assert f"User:{lane}.consumer deny read topic {topic}" in lines
        assert provisioned(kafka, kafka.catalog()).changes == ()
        with kafka.admin_client() as client:
            for each in foreign:
                assert client.describe_acls(exactly(each)).result(20) == [each]


def test_undeclared_rights_of_our_roles_are_withdrawn(kafka: KafkaFixture, lane: Lane) -> None:
    """Of a stage, of a lane, of a lane that was removed; from one host only, too."""
    topic = uploads_of(lane)
    ours = (
        rule(AUDITOR, ALLOW, topic),
        rule(lane_role(lane, LaneRole.ACCOUNT), ALLOW, topic),
        rule("removed-lane.consumer", ALLOW, topic),
        rule(ROUTER, ALLOW, topic, host="192.0.2.1"),
    )
    with rules(kafka, *ours):
        withdrawn = {str(change) for change in provisioned(kafka, kafka.catalog()).changes}
        assert f"withdraw: User:auditor allow read topic {topic}" in withdrawn
        assert f"withdraw: User:router allow read topic {topic} from 192.0.2.1" in withdrawn
        with kafka.admin_client() as client:
            assert [client.describe_acls(exactly(each)).result(20) for each in ours] == [[]] * 4


def test_rights_are_in_effect_once_provisioning_returns(kafka: KafkaFixture, lane: Lane) -> None:
    with kafka.without_rights(ROUTER), kafka.admin as admin:
        catalog = kafka.catalog()
        assert not rights(catalog) <= rights_in_effect(admin)
        provision(admin, catalog, show=lambda _plan: None)
        assert rights(catalog) <= rights_in_effect(admin)


def with_quota(catalog: Catalog, lane: Lane, quota: LaneQuota) -> Catalog:
    """Return the catalog with another quota of one lane."""
    lanes = tuple(
        replace(spec, quota=quota) if spec.name == lane else spec for spec in catalog.lanes
    )
    return Catalog.build(lanes, durability=catalog.durability)


def test_quotas_of_every_lanes_roles_are_on_the_broker(kafka: KafkaFixture, lane: Lane) -> None:
    quotas = ClientQuotas(kafka.connection("admin"))
    declared = kafka.catalog().quotas
    assert {role: quotas.of_users()[role] for role in declared} == declared
    account = lane_role(lane, LaneRole.ACCOUNT)
    assert declared[account][REQUESTS] < declared[lane_role(lane, LaneRole.PRODUCER)][REQUESTS]


def test_a_changed_quota_is_planned_and_set_once(kafka: KafkaFixture, lane: Lane) -> None:
    """In the plan, a line for each; afterwards nothing is left to do."""
    catalog = with_quota(kafka.catalog(), lane, LaneQuota(request_percent=50.0))
    changes = provisioned(kafka, catalog).changes
    assert {type(change) for change in changes} == {SetQuota}
    assert f"limit request_percentage of {lane}.producer from 100 to 50" in map(str, changes)
    assert provisioned(kafka, catalog).changes == ()
    assert provisioned(kafka, kafka.catalog()).changes


def test_a_role_without_the_right_sees_no_quotas(kafka: KafkaFixture, lane: Lane) -> None:
    quotas = ClientQuotas(kafka.connection(lane_role(lane, LaneRole.PRODUCER)))
    with pytest.raises(NotAuthorized):
        quotas.of_users()
    with pytest.raises(NotAuthorized):
        quotas.set_for_users({f"{lane}.producer": {PRODUCE: 1e12}})


def test_a_cluster_without_quotas_is_provisioned_and_they_are_named(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """As a managed one refuses even its administrator."""
    role = lane_role(lane, LaneRole.PRODUCER)
    with Admin(kafka.connection(role)) as refused:
        planned = plan_quotas(refused, kafka.catalog_of(lane))
    assert planned.changes == ()
    assert f"limit request_percentage of {role} from none to 100" in map(str, planned.not_settable)
    assert len(planned.not_settable) == 9


def test_a_flooding_lane_is_throttled_and_no_other(kafka: KafkaFixture, lane: Lane) -> None:
    other = kafka.open_lane()
    catalog = with_quota(kafka.catalog(), lane, LaneQuota(produce_bytes_per_s=1000.0))
    provisioned(kafka, catalog)
    flood = batch([record(0, bytes(100_000))])
    try:
        # The broker has the quota; the part of it that measures applies it a moment later.
        eventually("the flood is throttled", lambda: throttle_ms(kafka, lane, flood))
        assert throttle_ms(kafka, other, flood) == 0
    finally:
        provisioned(kafka, kafka.catalog())


def throttle_ms(kafka: KafkaFixture, lane: Lane, encoded: bytes) -> int:
    """Send a batch as the lane's producer; return how long the broker makes it wait."""
    with RawKafka(kafka.cluster, lane_role(lane, LaneRole.PRODUCER)) as producer:
        answer = producer.produce(uploads_of(lane), 0, encoded)
    assert answer.error == 0
    return answer.throttle_ms

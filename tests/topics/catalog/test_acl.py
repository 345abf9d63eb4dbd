"""The rights of every role, as an explicit table.

The rights are derived; the table is written by hand, so that a change of the catalog shows here as
the change of rights that it causes.
"""

import pytest

from erasestream.schemas.events.installation import Environment
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Match, Operation, Resource, Right, rights
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.catalog.roles import STAGE_ROLES, LaneRole, Role, lane_role

# One name is a prefix of the other, so that a prefix that is too short is noticed.
SHOP, SHOPS = Lane("shop"), Lane("shops")
CATALOG = Catalog.build((LaneSpec(name=SHOP), LaneSpec(name=SHOPS)))
RIGHTS = rights(CATALOG)

CONSENTS = "consent.shop consent.shops"
LEDGERS = "ledger.shop ledger.shops"
ERASURES = "erasures.shop erasures.shops"
REVOCATIONS = "revocations.shop revocations.shops"
UPLOADS = "uploads.shop uploads.shops"
CUTOUTS = "cutouts.shop cutouts.shops"
EVERYTHING = (
    f"{UPLOADS} {CUTOUTS} ephemeral.shop ephemeral.shops "
    f"{CONSENTS} {LEDGERS} {ERASURES} {REVOCATIONS} retained ledger installation"
)
LANE_TOPICS = ("uploads", "cutouts", "ephemeral", "consent", "ledger", "erasures", "revocations")
CLUSTER = "broker:kafka-cluster"

TABLE: dict[str, dict[str, str]] = {
    "inference": {"read": f"{UPLOADS} group:inference", "write": CUTOUTS},
    "router": {
        "read": f"{UPLOADS} {CUTOUTS} {CONSENTS} {REVOCATIONS} installation group:router",
        "write": f"ephemeral.shop ephemeral.shops {LEDGERS} retained ledger "
        "transactional_id:router.*",
    },
    "sink": {
        "read": f"retained {CONSENTS} {REVOCATIONS} installation group:sink",
        "write": "ledger",
    },
    "purger": {
        "delete": f"{UPLOADS} {CUTOUTS} retained",
        "describe": "group:router group:sink",
    },
    "reader": {},
    "eraser": {
        "read": f"{CONSENTS} {LEDGERS} {ERASURES} {REVOCATIONS} ledger group:eraser",
        "write": f"{CONSENTS} {LEDGERS} {ERASURES} ledger",
    },
    "auditor": {
        "read": f"{LEDGERS} {ERASURES} {REVOCATIONS} ledger installation",
        "describe": f"{EVERYTHING} {CLUSTER}",
        "describe_configs": f"{EVERYTHING} {CLUSTER}",
    },
    "operator": {
        "read": f"{CONSENTS} {LEDGERS} {ERASURES} {REVOCATIONS} ledger installation",
        "write": REVOCATIONS,
    },
    "admin": {"write": "ledger installation"},
    "keys": {"write": "ledger"},
    "rotator": {"write": "ledger"},
} | {
    f"{lane}.{service}": table
    for lane in ("shop", "shops")
    for service, table in {
        "producer": {"write": f"uploads.{lane}", "describe_configs": f"uploads.{lane}"},
        "consumer": {"read": f"ephemeral.{lane} group:{lane}.consumer.*"},
        "account": {
            "read": f"consent.{lane} ledger.{lane} erasures.{lane} revocations.{lane} installation",
            "write": f"consent.{lane} ledger.{lane}",
        },
    }.items()
}


def expected(role: str) -> set[Right]:
    """Return the rights of a role from the table."""
    found = set()
    for operation, resources in TABLE[role].items():
        for text in resources.split():
            kind, _, name = text.rpartition(":")
            match = Match.PREFIXED if name.endswith("*") else Match.LITERAL
            resource = Resource(kind or "topic")
            found.add(Right(Role(role), Operation(operation), resource, name.rstrip("*"), match))
    return found


def test_the_table_has_every_role_and_no_other() -> None:
    assert set(TABLE) == set(CATALOG.roles)
    assert {right.role for right in RIGHTS} <= set(TABLE)


@pytest.mark.parametrize("role", TABLE)
def test_a_role_has_exactly_the_rights_of_the_table(role: str) -> None:
    assert {right for right in RIGHTS if right.role == role} == expected(role)


def covers(right: Right, resource: Resource, name: str) -> bool:
    """Return whether a right covers a resource of this name."""
    if right.resource is not resource:
        return False
    if right.match is Match.PREFIXED:
        return name.startswith(right.name)
    return name == right.name


@pytest.mark.parametrize("lane", [SHOP, SHOPS])
@pytest.mark.parametrize("service", LaneRole)
def test_a_lane_reaches_nothing_of_another(lane: Lane, service: LaneRole) -> None:
    """Neither topics nor groups, even where one name begins like the other."""
    other = SHOPS if lane == SHOP else SHOP
    its = [right for right in RIGHTS if right.role == lane_role(lane, service)]
    assert its
    for right in its:
        for topic in LANE_TOPICS:
            assert not covers(right, Resource.TOPIC, f"{topic}.{other}")
        for shared in ("retained", "ledger"):
            assert not covers(right, Resource.TOPIC, shared)
        for role in LaneRole:
            assert not covers(right, Resource.GROUP, f"{lane_role(other, role)}.group")
        for stage in STAGE_ROLES:
            assert not covers(right, Resource.GROUP, stage)


def test_a_service_reaches_groups_with_its_prefix() -> None:
    group = f"{lane_role(SHOP, LaneRole.CONSUMER)}.anything"
    its = [r for r in RIGHTS if covers(r, Resource.GROUP, group)]
    assert [(r.role, r.operation) for r in its] == [("shop.consumer", Operation.READ)]


def test_roles_with_transactions_cannot_write_uploads_or_cutouts() -> None:
    """Their offsets stay dense."""
    transactional = {r.role for r in RIGHTS if r.resource is Resource.TRANSACTIONAL_ID}
    for right in RIGHTS:
        if right.operation is Operation.WRITE and right.resource is Resource.TOPIC:
            dense = right.name.startswith(("uploads.", "cutouts."))
            assert not (dense and right.role in transactional)


def test_no_role_can_change_settings_or_rights() -> None:
    """There is no operation for it: only the administrator, who needs no right, can."""
    assert {right.operation for right in RIGHTS} <= set(Operation)
    assert not {"alter", "alter_configs", "create", "all"} & set(Operation)
    of_cluster = {r.operation for r in RIGHTS if r.resource is Resource.CLUSTER}
    assert of_cluster == {Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS}


def test_only_in_development_can_operators_write_grants() -> None:
    """In production they write revocations and nothing else."""
    production = {r.name for r in RIGHTS if (r.role, r.operation) == ("operator", Operation.WRITE)}
    assert production == set(REVOCATIONS.split())
    catalog = Catalog.build((LaneSpec(name=SHOP),), environment=Environment.DEVELOPMENT)
    more = rights(catalog) - rights(Catalog.build((LaneSpec(name=SHOP),)))
    assert {(r.role, r.operation, r.name) for r in more} == {
        ("operator", Operation.WRITE, "consent.shop"),
        ("operator", Operation.WRITE, "ledger.shop"),
    }


def test_no_right_covers_everything() -> None:
    """No empty prefix and no wildcard."""
    for right in RIGHTS:
        assert right.name not in {"", "*"}
        assert right.match is Match.LITERAL or right.name.endswith(".")


def test_adding_a_lane_changes_no_right_of_another_lane() -> None:
    """Only the stages and the new lane gain rights."""
    before = rights(Catalog.build((LaneSpec(name=SHOP),)))
    assert before <= RIGHTS
    new = {right.role for right in RIGHTS - before}
    assert not {role for role in new if role.startswith("shop.")}

"""The table of topics, and the rights that follow from it."""

import pytest

from erasestream.schemas.errors import Refused
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, MAX_UPLOAD_BYTES
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation, Resource, Right, rights
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.catalog.roles import (
    ADMIN,
    AUDITOR,
    ERASER,
    INFERENCE,
    OPERATOR,
    PURGER,
    ROUTER,
    SINK,
    LaneRole,
    Role,
    lane_role,
)
from erasestream.topics.catalog.topic_names import (
    ERASURES,
    LEDGER,
    RETAINED,
    consent_of,
    cutouts_of,
    ephemeral_of,
    lane_of,
    uploads_of,
)

SHOP, BULK = Lane("shop"), Lane("bulk")
CATALOG = Catalog.build((LaneSpec(name=SHOP), LaneSpec(name=BULK)))
RIGHTS = rights(CATALOG)


def who(operation: Operation, topic: str) -> set[Role]:
    """The roles that may do this to a topic."""
    return {
        right.role
        for right in RIGHTS
        if (right.operation, right.resource, right.name) == (operation, Resource.TOPIC, topic)
    }


@pytest.mark.parametrize("name", ["", "Shop", "a.b", "router", "x" * 33, "1st"])
def test_names_that_no_lane_can_have(name: str) -> None:
    """Also those that a role of ours has."""
    with pytest.raises(Refused):
        Catalog.build((LaneSpec(name=Lane(name)),))


def test_lanes_are_named_once_and_there_is_one() -> None:
    """Two entries of one name would be one lane with two settings."""
    for lanes in ((), (LaneSpec(name=SHOP), LaneSpec(name=SHOP))):
        with pytest.raises(Refused):
            Catalog.build(lanes)


def test_topic_proves_the_lane() -> None:
    """Every topic of a lane names it."""
    for name in (uploads_of, cutouts_of, ephemeral_of, consent_of):
        assert lane_of(name(SHOP)) == SHOP


def test_cutouts_come_before_uploads() -> None:
    """A partition that uploads can come from has a partition for its results."""
    names = [topic.name for topic in CATALOG.topics]
    for lane in (SHOP, BULK):
        assert names.index(cutouts_of(lane)) < names.index(uploads_of(lane))


def test_images_are_never_compacted_and_always_have_a_lifetime() -> None:
    """What holds no image is kept, what holds one is deleted; the broker's clock decides."""
    for topic in CATALOG.topics:
        config = CATALOG.config(topic)
        image = topic.max_record_bytes > 1_000_000
        assert config["message.timestamp.type"] == "LogAppendTime"
        assert config["unclean.leader.election.enable"] == "false"
        assert (topic.lifetime is not None) == image
        assert (config["retention.ms"] != "-1") == image
        assert config["cleanup.policy"] == ("compact" if topic.compacted else "delete")
        assert not (image and topic.compacted)


def test_sizes_follow_from_the_events() -> None:
    """The broker takes the largest allowed value with its headers, and little more."""
    assert 0 < CATALOG[uploads_of(SHOP)].max_record_bytes - MAX_UPLOAD_BYTES < 20_000
    for name in (cutouts_of(SHOP), ephemeral_of(SHOP), RETAINED):
        assert 0 < CATALOG[name].max_record_bytes - MAX_CUTOUT_BYTES < 20_000


def test_who_may_write_images() -> None:
    """One role each, and the lane's own for what comes in."""
    for lane in (SHOP, BULK):
        assert who(Operation.WRITE, uploads_of(lane)) == {lane_role(lane, LaneRole.PRODUCER)}
        assert who(Operation.WRITE, cutouts_of(lane)) == {INFERENCE}
        assert who(Operation.WRITE, ephemeral_of(lane)) == {ROUTER}
    assert who(Operation.WRITE, RETAINED) == {ROUTER}


def test_who_may_read_images() -> None:
    """Results are read by the lane's own consumer, and by nobody else."""
    for lane in (SHOP, BULK):
        assert who(Operation.READ, uploads_of(lane)) == {INFERENCE, ROUTER}
        assert who(Operation.READ, cutouts_of(lane)) == {ROUTER}
        assert who(Operation.READ, ephemeral_of(lane)) == {lane_role(lane, LaneRole.CONSUMER)}
    assert who(Operation.READ, RETAINED) == {SINK}


def test_purger_deletes_and_reads_nothing() -> None:
    """And only where something is passed on."""
    its = {right for right in RIGHTS if right.role == PURGER}
    assert {r.operation for r in its} == {Operation.DELETE, Operation.DESCRIBE}
    deletes = {r.name for r in its if r.operation is Operation.DELETE}
    passed_on = {name(lane) for lane in (SHOP, BULK) for name in (uploads_of, cutouts_of)}
    assert deletes == passed_on | {RETAINED}


def test_auditor_reads_no_image() -> None:
    """It sees settings, the ledger, and what the eraser confirmed."""
    its = {right for right in RIGHTS if right.role == AUDITOR}
    assert {r.name for r in its if r.operation is Operation.READ} == {LEDGER, ERASURES}
    assert not {r for r in its if r.operation in {Operation.WRITE, Operation.DELETE}}


def test_only_the_eraser_says_that_something_is_erased() -> None:
    """Who awaits it reads it; no lane, no operator and no administrator can write it."""
    assert who(Operation.WRITE, ERASURES) == {ERASER}
    accounts = {lane_role(lane, LaneRole.ACCOUNT) for lane in (SHOP, BULK)}
    assert who(Operation.READ, ERASURES) == accounts | {OPERATOR, ERASER, AUDITOR}


def test_no_lane_touches_another() -> None:
    """Neither its topics nor its groups."""
    for right in RIGHTS:
        lane, _, kind = right.role.partition(".")
        if kind:
            other = BULK if lane == SHOP else SHOP
            assert other not in right.name.split(".")


def test_only_the_router_writes_in_transactions() -> None:
    """Uploads and cut-outs are dense: no transaction leaves a marker among them."""
    its = {right for right in RIGHTS if right.resource is Resource.TRANSACTIONAL_ID}
    assert {right.role for right in its} == {ROUTER}


def test_rights_are_of_roles_that_exist() -> None:
    """And the administrator, who may do everything, needs none but to be named in the ledger."""
    assert {right.role for right in RIGHTS} <= set(CATALOG.roles)
    its = {right for right in RIGHTS if right.role == ADMIN}
    assert its == {Right(ADMIN, Operation.WRITE, Resource.TOPIC, LEDGER)}

"""The table of topics, and the rights derived from it."""

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
    KEYS,
    OPERATOR,
    PURGER,
    ROTATOR,
    ROUTER,
    SINK,
    LaneRole,
    Role,
    lane_role,
)
from erasestream.topics.catalog.topic_names import (
    INSTALLATION,
    LEDGER,
    RETAINED,
    consent_of,
    credentials_of,
    cutouts_of,
    ephemeral_of,
    erasures_of,
    held_of,
    index_of,
    lane_of,
    ledger_of,
    marks_of,
    receipts_of,
    revocations_of,
    uploads_of,
)

SHOP, BULK = Lane("shop"), Lane("bulk")
CATALOG = Catalog.build((LaneSpec(name=SHOP), LaneSpec(name=BULK)))
RIGHTS = rights(CATALOG)
HISTORY = (ledger_of, erasures_of, revocations_of)


def roles_with(operation: Operation, topic: str) -> set[Role]:
    """Return the roles with this right to a topic."""
    return {
        right.role
        for right in RIGHTS
        if (right.operation, right.resource, right.name) == (operation, Resource.TOPIC, topic)
    }


@pytest.mark.parametrize("name", ["", "Shop", "a.b", "router", "x" * 33, "1st"])
def test_invalid_lane_names_are_refused(name: str) -> None:
    """Including names of roles."""
    with pytest.raises(Refused):
        Catalog.build((LaneSpec(name=Lane(name)),))


def test_lanes_are_unique_and_there_is_at_least_one() -> None:
    for lanes in ((), (LaneSpec(name=SHOP), LaneSpec(name=SHOP))):
        with pytest.raises(Refused):
            Catalog.build(lanes)


def test_topic_names_contain_the_lane() -> None:
    for name in (uploads_of, cutouts_of, ephemeral_of, consent_of, *HISTORY):
        assert lane_of(name(SHOP)) == SHOP


def test_cutouts_are_created_before_uploads() -> None:
    """Every partition of uploads has a partition for its results."""
    names = [topic.name for topic in CATALOG.topics]
    for lane in (SHOP, BULK):
        assert names.index(cutouts_of(lane)) < names.index(uploads_of(lane))


def test_images_are_never_compacted_and_always_have_a_lifetime() -> None:
    """Topics without images are permanent; the broker's clock decides."""
    for topic in CATALOG.topics:
        config = CATALOG.config(topic)
        image = topic.max_record_bytes > 1_000_000
        assert config["message.timestamp.type"] == "LogAppendTime"
        assert config["unclean.leader.election.enable"] == "false"
        assert (topic.lifetime is not None) == image
        assert (config["retention.ms"] != "-1") == image
        assert config["cleanup.policy"] == ("compact" if topic.compacted else "delete")
        assert not (image and topic.compacted)


def test_record_sizes_follow_from_the_events() -> None:
    """The brokers accept the largest allowed value with its headers, and little more."""
    assert 0 < CATALOG[uploads_of(SHOP)].max_record_bytes - MAX_UPLOAD_BYTES < 20_000
    for name in (cutouts_of(SHOP), ephemeral_of(SHOP), RETAINED):
        assert 0 < CATALOG[name].max_record_bytes - MAX_CUTOUT_BYTES < 20_000


def test_each_image_topic_has_one_writer() -> None:
    for lane in (SHOP, BULK):
        assert roles_with(Operation.WRITE, uploads_of(lane)) == {lane_role(lane, LaneRole.PRODUCER)}
        assert roles_with(Operation.WRITE, cutouts_of(lane)) == {INFERENCE}
        assert roles_with(Operation.WRITE, ephemeral_of(lane)) == {ROUTER}
    assert roles_with(Operation.WRITE, RETAINED) == {ROUTER}


def test_readers_of_images() -> None:
    """Results are read by the lane's own consumer only."""
    for lane in (SHOP, BULK):
        assert roles_with(Operation.READ, uploads_of(lane)) == {INFERENCE, ROUTER}
        assert roles_with(Operation.READ, cutouts_of(lane)) == {ROUTER}
        assert roles_with(Operation.READ, ephemeral_of(lane)) == {
            lane_role(lane, LaneRole.CONSUMER)
        }
    assert roles_with(Operation.READ, RETAINED) == {SINK}


def test_purger_deletes_and_reads_nothing() -> None:
    """It deletes only from topics whose records are forwarded."""
    its = {right for right in RIGHTS if right.role == PURGER}
    assert {r.operation for r in its} == {Operation.DELETE, Operation.DESCRIBE}
    deletes = {r.name for r in its if r.operation is Operation.DELETE}
    passed_on = {name(lane) for lane in (SHOP, BULK) for name in (uploads_of, cutouts_of)}
    assert deletes == passed_on | {RETAINED}


def test_auditor_reads_no_image() -> None:
    """It sees settings, the ledgers, and confirmed erasures."""
    its = {right for right in RIGHTS if right.role == AUDITOR}
    assert {r.name for r in its if r.operation is Operation.READ} == {
        INSTALLATION,
        LEDGER,
        INSTALLATION,
        *(name(lane) for name in HISTORY for lane in (SHOP, BULK)),
    }
    assert not {r for r in its if r.operation in {Operation.WRITE, Operation.DELETE}}


def test_api_keys_are_the_accounts_own() -> None:
    """No operator can issue an owner's key, and no lane without a gateway has the topic."""
    catalog = Catalog.build((LaneSpec(name=SHOP), LaneSpec(name=BULK, gateway=True)))
    assert credentials_of(SHOP) not in {topic.name for topic in catalog.topics}
    topic = catalog[credentials_of(BULK)]
    assert {*topic.writers, *topic.readers} == {lane_role(BULK, LaneRole.ACCOUNT)}
    assert topic.compacted


def test_the_index_of_a_gateway_holds_no_image_and_is_forgotten() -> None:
    """Twice as long as an image, so that its id is answered with when it was gone."""
    catalog = Catalog.build((LaneSpec(name=SHOP), LaneSpec(name=BULK, gateway=True, partitions=3)))
    assert index_of(SHOP) not in {topic.name for topic in catalog.topics}
    account = lane_role(BULK, LaneRole.ACCOUNT)
    index, marks = catalog[index_of(BULK)], catalog[marks_of(BULK)]
    assert (index.writers, index.readers) == ((ROUTER,), (account,))
    assert (marks.writers, marks.readers) == ((account,), (account,))
    assert index.partitions == catalog[ephemeral_of(BULK)].partitions
    names = [topic.name for topic in catalog.topics]
    assert names.index(index_of(BULK)) < names.index(ephemeral_of(BULK))
    for topic in (index, marks):
        assert (topic.lifetime, topic.compacted) == (None, False)
        assert topic.max_record_bytes < 100_000
        life = topic.metadata_lifetime
        assert life
        assert life.worst_age_s == pytest.approx(48 * 3600)
        assert life.retention_s > 24 * 3600
        config = catalog.config(topic)
        assert config["retention.ms"] == str(life.retention_ms)
        assert config["cleanup.policy"] == "delete"


def test_the_router_alone_counts_what_is_retained() -> None:
    """In transactions, which another writer could disturb; for lanes with an account page."""
    catalog = Catalog.build((LaneSpec(name=SHOP), LaneSpec(name=BULK, gateway=True)))
    assert held_of(SHOP) not in {topic.name for topic in catalog.topics}
    topic = catalog[held_of(BULK)]
    assert topic.writers == (ROUTER,)
    assert topic.readers == (lane_role(BULK, LaneRole.ACCOUNT),)


def test_receipts_reach_the_account_page_from_the_eraser_alone() -> None:
    catalog = Catalog.build((LaneSpec(name=SHOP), LaneSpec(name=BULK, gateway=True)))
    assert receipts_of(SHOP) not in {topic.name for topic in catalog.topics}
    topic = catalog[receipts_of(BULK)]
    assert topic.writers == (ERASER,)
    assert topic.readers == (lane_role(BULK, LaneRole.ACCOUNT), ERASER)


def test_only_the_eraser_writes_erasures() -> None:
    for lane in (SHOP, BULK):
        account = lane_role(lane, LaneRole.ACCOUNT)
        assert roles_with(Operation.WRITE, erasures_of(lane)) == {ERASER}
        assert roles_with(Operation.READ, erasures_of(lane)) == {account, OPERATOR, ERASER, AUDITOR}


def test_history_is_read_by_its_own_lane() -> None:
    """And by operators, the eraser and the auditor; no lane reaches the shared ledger."""
    for lane in (SHOP, BULK):
        account = lane_role(lane, LaneRole.ACCOUNT)
        assert roles_with(Operation.READ, ledger_of(lane)) == {account, OPERATOR, ERASER, AUDITOR}
    assert roles_with(Operation.READ, LEDGER) == {OPERATOR, ERASER, AUDITOR}
    assert roles_with(Operation.WRITE, LEDGER) == {
        ROUTER,
        SINK,
        ERASER,
        ADMIN,
        KEYS,
        ROTATOR,
    }


def test_no_lane_has_rights_in_another() -> None:
    """Neither to topics nor to groups."""
    for right in RIGHTS:
        lane, _, kind = right.role.partition(".")
        if kind:
            other = BULK if lane == SHOP else SHOP
            assert other not in right.name.split(".")


def test_only_the_router_has_transactions() -> None:
    """Uploads and cut-outs are dense: they contain no transaction markers."""
    its = {right for right in RIGHTS if right.resource is Resource.TRANSACTIONAL_ID}
    assert {right.role for right in its} == {ROUTER}


def test_rights_belong_to_existing_roles() -> None:
    """The administrator may do everything; its rights name it as a writer of two topics."""
    assert {right.role for right in RIGHTS} <= set(CATALOG.roles)
    its = {right for right in RIGHTS if right.role == ADMIN}
    assert its == {
        Right(ADMIN, Operation.WRITE, Resource.TOPIC, topic) for topic in (LEDGER, INSTALLATION)
    }

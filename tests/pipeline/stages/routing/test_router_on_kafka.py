"""The router on a real broker: other uploads, other partitions, other members."""

import threading
from contextlib import closing
from typing import Any

import pytest

from erasestream.pipeline.bootstrap import routing
from erasestream.pipeline.settings import KafkaSettings, LaneSettings, Settings, StageSettings
from erasestream.pipeline.stages.routing.router import Router
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Fenced
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.ids import AccountId, grant_id
from erasestream.topics.admin.provisioning_plan import plan
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import RETAINED, cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.open_transaction import State
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, SHARED
from tests.pipeline.stages.encryption.sink_harness import picture
from tests.pipeline.stages.routing.router_harness import ACCOUNT, LEFT_OPEN_S, KafkaRouterHarness
from tests.pipeline.stages.routing.running_router import INSTANCE

NO_TOPIC = "A" * 22


def add_partition(harness: KafkaRouterHarness) -> None:
    """Add a third partition, and wait until new clients see it."""
    harness.kafka.grown[harness.lane] = 3
    catalog = harness.kafka.catalog()
    harness.kafka.provision(catalog)
    topics = [topic(harness.lane) for topic in (uploads_of, cutouts_of, ephemeral_of)]
    with harness.kafka.admin as admin:
        assert plan(admin, catalog).changes == ()

        def is_known() -> bool:
            counts = admin.partition_counts()
            return all(counts[topic] == 3 for topic in topics)

        eventually("the partition is known", is_known)


def test_recreated_uploads_are_routed_from_their_beginning(harness: KafkaRouterHarness) -> None:
    """Their offsets restart, and so does the mark; earlier results stay delivered."""
    before = [harness.upload_with_result() for _ in range(3)]
    running = harness.route_until_delivered(*before)
    old_id = harness.topic_id
    harness.kafka.delete_topic(uploads_of(harness.lane))
    harness.kafka.provision(harness.kafka.catalog())
    assert harness.topic_id != old_id
    after = [harness.upload_with_result() for _ in range(2)]
    running.run_until(lambda: set(after) <= set(harness.delivered_so_far()))
    assert harness.delivered() == before + after


def test_a_result_of_an_unknown_topic_breaks_its_partition(harness: KafkaRouterHarness) -> None:
    """It may be a replay or not."""
    first = harness.upload_with_result()
    upload, position, at = harness.upload()
    harness.write_result(upload, position._replace(topic_id=NO_TOPIC), at)
    harness.assert_quarantined(Defect.UNDECIDABLE_RECORD, "does not have")
    assert set(harness.delivered()) <= {first}


def test_partitions_can_be_added_while_routers_run(harness: KafkaRouterHarness) -> None:
    """Provisioning leaves their initial offsets to the routers: nothing was routed there."""
    before = harness.upload_with_result()
    running = harness.route_until_delivered(before)
    add_partition(harness)
    # Its clients know three partitions.
    with closing(KafkaRouterHarness(harness.kafka, harness.lane)) as newcomer:
        added = [newcomer.upload_with_result(2) for _ in range(2)]
    running.run_until(lambda: len(harness.delivered(3, LEFT_OPEN_S)) >= 3)
    assert sorted(harness.delivered(3), key=str) == sorted([before, *added], key=str)


def test_a_router_that_dies_in_its_first_transaction_is_succeeded(
    harness: KafkaRouterHarness,
) -> None:
    """Its aborted records in the ephemeral topic do not make the new partition look routed."""
    first = harness.start_router()
    first.run_until(lambda: first.loop.has_partitions)
    add_partition(harness)
    with closing(KafkaRouterHarness(harness.kafka, harness.lane)) as newcomer:
        added = newcomer.upload_with_result(2)
    producer = first.loop._clients.producer
    is_dying = threading.Event()

    def die(*_: object) -> None:
        producer._producer.flush(20)  # its records reach the broker
        is_dying.set()

    producer.commit = die  # type: ignore[method-assign]
    first.run_until(is_dying.is_set)
    first.close()
    assert harness.log_end(Partition(ephemeral_of(harness.lane), 2)) > 0
    assert harness.delivered(3, LEFT_OPEN_S) == []
    second = harness.start_router()
    second.run_until(lambda: harness.delivered(3, LEFT_OPEN_S) == [added])


def test_a_fenced_router_delivers_nothing_more(harness: KafkaRouterHarness) -> None:
    """Another process takes its name during a transaction, and makes the same decisions."""
    first = harness.upload_with_result()
    deposed = harness.route_until_delivered(first)
    second = harness.upload_with_result()
    producer, is_committing = deposed.loop._clients.producer, threading.Event()
    commit = producer.commit
    producer.commit = lambda *_: is_committing.set()  # type: ignore[method-assign]
    deposed.run_until(is_committing.is_set)
    producer.commit = commit  # type: ignore[method-assign]
    deposed.loop._transaction._state = State.OPEN
    harness.route_until_delivered(second)
    with pytest.raises(Fenced):
        deposed.run_until(lambda: False)
    assert harness.delivered() == [first, second]


def test_a_router_without_partitions_is_ready(harness: KafkaRouterHarness) -> None:
    """Three routers share two partitions: the third is a standby."""
    routers = [harness.start_router(instance=f"standby-{number}") for number in range(3)]
    assert not any(each.loop.is_assigned for each in routers)

    def are_assigned() -> bool:
        for each in routers:
            each.loop.run_once()
        busy = sum(each.loop.has_partitions for each in routers)
        return busy == 2 and all(each.loop.is_assigned for each in routers)

    eventually("each knows its partitions", are_assigned, poll_s=0)


def test_all_decisions_are_applied_before_the_first_result_is_read(
    harness: KafkaRouterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage applies them up to its mark while it starts, before any `run_once`."""
    accounts = [AccountId(f"acct-{number}") for number in range(5)]
    owners = harness.consent_writer()
    for account in accounts:
        owners.grant(account, actor="owner", channel=Channel.LIBRARY)
    owners.revoke(accounts[0], actor="owner", channel=Channel.LIBRARY)
    cluster = harness.kafka.cluster
    settings = Settings(
        kafka=KafkaSettings(
            bootstrap_servers=cluster.bootstrap_servers,
            identities=cluster.identities,
            **SHARED,
        ),
        lanes={harness.lane: LaneSettings(partitions=PARTITIONS)},
        stage=StageSettings(instance=INSTANCE),
    )
    views: list[ConsentView] = []

    def router(*, view: ConsentView, **parts: Any) -> Router:
        views.append(view)
        return Router(view=view, **parts)

    monkeypatch.setattr(routing, "Router", router)
    with routing.router_stage(settings, threading.Event()):
        opted_in = [each for each in accounts if views[0].active_grant(harness.lane, each)]
    assert opted_in == accounts[1:]


def test_records_of_other_tests_hide_no_retained_picture(harness: KafkaRouterHarness) -> None:
    """Tests that share the topic delete records, and write records without headers."""
    at = Partition(RETAINED, 0)
    harness.produce(at.topic, [b"deleted", b"without headers"])
    harness.kafka.delete_records({at: harness.log_end(at) - 1})
    event = picture(harness.lane, grant_id(harness.lane, ACCOUNT, "decision"), mark="0/0")
    connection = harness.kafka.connection(ROUTER)
    with closing(AcknowledgedWriter(connection=connection, timeout_s=20)) as writes:
        writes.write(at, b"key", to_wire(event, source="/router"))
    assert harness.retained() == [event.id]

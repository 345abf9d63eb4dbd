"""The router on a real broker, when what it stands on is not as it was left."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer

from erasestream.pipeline.bootstrap import routing
from erasestream.pipeline.settings import KafkaSettings, LaneSettings, Settings, StageSettings
from erasestream.pipeline.stages.routing.router import Router
from erasestream.schemas.errors import Fenced, InvariantBroken
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.topics.admin.provisioning_plan import plan
from erasestream.topics.admin.router_recovery import RouterRecovery
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.open_transaction import State
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture, opened_kafka
from tests.pipeline.stages.routing.router_harness import ACCOUNT, INSTANCE, KafkaRouterHarness

NO_TOPIC = "A" * 22


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """A broker of this module's own: nobody else is in the routers' group."""
    with opened_kafka(tmp_path_factory.mktemp("routing")) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def lanes(kafka: KafkaFixture) -> Iterator[Lane]:
    """Lanes that were made before any router ran; each test takes one."""
    return iter(kafka.open_lanes(16))


@pytest.fixture
def bench(kafka: KafkaFixture, lanes: Iterator[Lane]) -> Iterator[KafkaRouterHarness]:
    """A lane of the test's own."""
    bench = KafkaRouterHarness(kafka, next(lanes))
    yield bench
    bench.close()


def wait_until_group_is_empty(kafka: KafkaFixture) -> None:
    """A static member stays in its group until its session has timed out."""
    eventually("nobody is in the group", lambda: not kafka.admin.has_members(ROUTER))


def delete_uploads(bench: KafkaRouterHarness, *, below: int) -> None:
    """As retention or the purger do."""
    delete(bench, uploads_of(bench.lane), below=below)


def delete(bench: KafkaRouterHarness, topic: str, *, below: int) -> None:
    """Of the topic's first partition."""
    bench.kafka.delete_records({Partition(topic, 0): below})


def assert_it_stops(bench: KafkaRouterHarness, why: str) -> None:
    """A router is started, and ends with this."""
    routed = bench.router()
    with pytest.raises(InvariantBroken, match=why):
        routed.run_until(lambda: False)
    routed.close()


def grow(bench: KafkaRouterHarness) -> None:
    """A third partition, which every client that asks from now on is told of."""
    bench.kafka.grown[bench.lane] = 3
    catalog = bench.kafka.catalog()
    bench.kafka.provision(catalog)
    assert plan(bench.kafka.admin, catalog).changes == ()
    topics = [topic(bench.lane) for topic in (uploads_of, cutouts_of, ephemeral_of)]

    def is_known() -> bool:
        counts = bench.kafka.admin.partition_counts()
        return all(counts[topic] == 3 for topic in topics)

    eventually("it is known", is_known)


def keep(bench: KafkaRouterHarness) -> tuple[UploadId, Position]:
    """Opt in, and upload until it is surely after that; the result is written as well."""
    granted = bench.consent().grant(ACCOUNT, actor="owner", channel=Channel.LIBRARY)

    def after_the_grant() -> tuple[UploadId, Position] | None:
        upload = bench.upload()
        bench.infer(*upload)
        return upload[:2] if upload[2] - granted.at > MAX_CLOCK_SKEW else None

    return eventually("an upload after the grant", after_the_grant, poll_s=0.3)


def test_uploads_made_anew_go_on_from_their_beginning(bench: KafkaRouterHarness) -> None:
    """Their offsets start again, and so does the mark; what was routed before stays so."""
    before = [bench.process() for _ in range(3)]
    routed = bench.route_until(*before)
    topic = uploads_of(bench.lane)
    old_id = bench.topic_id
    bench.kafka.delete_topic(topic)
    bench.kafka.provision(bench.kafka.catalog())
    assert bench.topic_id != old_id
    after = [bench.process() for _ in range(2)]
    routed.run_until(lambda: set(after) <= set(bench.seen()))
    assert bench.delivered() == before + after


def test_a_result_of_a_topic_that_is_not_there_stops_the_router(bench: KafkaRouterHarness) -> None:
    """Nothing tells whether it is a replay."""
    first = bench.process()
    upload, position, at = bench.upload()
    bench.infer(upload, position._replace(topic_id=NO_TOPIC), at)
    assert_it_stops(bench, "does not have")
    assert set(bench.delivered()) <= {first}


def test_partitions_can_be_added_while_routers_run(bench: KafkaRouterHarness) -> None:
    """Provisioning leaves their beginning to the routers, which begin where nothing was routed."""
    before = bench.process()
    running = bench.route_until(before)
    grow(bench)
    newcomer = KafkaRouterHarness(bench.kafka, bench.lane)  # the other knows two partitions
    added = [newcomer.process(2) for _ in range(2)]
    running.run_until(lambda: len(bench.delivered(3)) >= 3)
    assert sorted(bench.delivered(3), key=str) == sorted([before, *added], key=str)


def test_a_router_that_dies_in_its_first_transaction_goes_on(bench: KafkaRouterHarness) -> None:
    """What it left undone in the ephemeral topic does not make a beginning look like a loss."""
    first = bench.router()
    first.run_until(lambda: first.loop.has_partitions)
    grow(bench)
    added = KafkaRouterHarness(bench.kafka, bench.lane).process(2)
    undone = threading.Event()

    def dies(*_: object) -> None:
        first.loop._clients.producer._producer.flush(20)  # what is undone has been sent
        undone.set()

    first.loop._clients.producer.commit = dies  # type: ignore[method-assign]
    first.run_until(undone.is_set)
    first.close()
    ephemeral = Partition(ephemeral_of(bench.lane), 2)
    assert bench.kafka.offsets.log_end(ephemeral) > 0
    assert bench.delivered(3) == []
    second = bench.router()
    second.run_until(lambda: bench.delivered(3) == [added])


def test_one_automatic_commit_stops_the_router_until_it_is_mended(
    bench: KafkaRouterHarness,
) -> None:
    """It wipes the mark; the repair finds it again in what was delivered, and nothing repeats."""
    before = [bench.process() for _ in range(3)]
    bench.route_until(*before).close()
    settings = bench.kafka.connection(ROUTER).settings(
        ClientErrorState(), group_id=ROUTER, enable_auto_commit=True
    )
    stranger = Consumer(settings | {"auto.offset.reset": "earliest"})
    stranger.subscribe([cutouts_of(bench.lane)])
    bench.process()
    eventually("it reads", lambda: stranger.poll(0.2))
    stranger.close()
    assert_it_stops(bench, "no replay mark")

    wait_until_group_is_empty(bench.kafka)
    catalog = bench.kafka.catalog()
    mender = RouterRecovery(
        connection=bench.kafka.connection("admin"), catalog=catalog, actor="operator:test"
    )
    mender.recover(bench.lane)
    last = before[-1]._replace(offset=3)
    bench.route_until(last)
    assert bench.delivered() == [*before, last]


def test_deleted_offsets_stop_the_router(bench: KafkaRouterHarness) -> None:
    """What was routed can not be told from what was not: neither from the start nor the end."""
    before = [bench.process() for _ in range(3)]
    bench.route_until(*before).close()
    wait_until_group_is_empty(bench.kafka)
    bench.kafka.delete_group(ROUTER)
    try:
        assert_it_stops(bench, "no committed offset")
        assert bench.delivered() == before
    finally:
        wait_until_group_is_empty(bench.kafka)
        bench.kafka.provision(bench.kafka.catalog())  # the other lanes' marks


def test_a_gap_stops_the_router_unless_it_was_purged(bench: KafkaRouterHarness) -> None:
    """A result that is missing is never passed over; uploads that are gone are a finding."""
    first = bench.process()
    bench.upload()
    third = bench.process()
    assert_it_stops(bench, "1 results are missing")
    assert set(bench.delivered()) <= {first}

    delete_uploads(bench, below=2)
    bench.route_until(third)
    assert bench.delivered() == [first, third]
    (finding,) = bench.ledger(Finding)
    assert finding.kind is FindingKind.UPLOADS_PURGED_UNPROCESSED
    assert finding.detail.startswith("1 uploads before")


def test_results_that_retention_took_from_the_router_are_counted(bench: KafkaRouterHarness) -> None:
    """It was away for too long: it goes on with what is left, and a gap after that still counts."""
    first = bench.process()
    bench.route_until(first).close()
    for _ in range(3):
        bench.process()
    left = bench.process()
    topic = cutouts_of(bench.lane)
    delete(bench, topic, below=bench.kafka.offsets.log_end(Partition(topic, 0)) - 1)
    bench.route_until(left).close()
    assert bench.delivered() == [first, left]
    (finding,) = bench.ledger(Finding)
    assert finding.kind is FindingKind.RESULTS_PURGED_UNROUTED
    assert finding.detail.startswith("3 results before")

    _, _, then = bench.upload()

    def surely_younger() -> bool:
        return bench.upload()[2] > then + MAX_CLOCK_SKEW

    eventually("an upload after what was lost", surely_younger, poll_s=0.3)
    bench.process()
    assert_it_stops(bench, "results are missing")


def test_an_upload_that_is_gone_makes_its_result_ephemeral(bench: KafkaRouterHarness) -> None:
    """And is counted: no cut-out is kept without its photo."""
    upload, position = keep(bench)
    delete_uploads(bench, below=position.offset + 1)
    routed = bench.route_until(position)
    assert upload not in bench.kept()
    assert routed.router.counts["original_gone"] >= 1
    assert routed.router.counts["retained"] == 0


def test_an_upload_that_can_not_be_read_now_is_waited_for(bench: KafkaRouterHarness) -> None:
    """Its broker is away: neither delivered nor kept until it is back; then both, once."""
    upload, position = keep(bench)
    nowhere = Connection(
        cluster=Cluster(bootstrap_servers=("127.0.0.1:1",), identities=bench.kafka.identities),
        role=ROUTER,
    )
    waiting = bench.router(originals_at=nowhere)
    waiting.run_until(lambda: waiting.router.counts["ephemeral"] > 0 or waiting.loop.has_partitions)
    for _ in range(3):
        waiting.loop.run_once()
    assert position not in bench.delivered()
    assert upload not in bench.kept()
    waiting.close()
    bench.route_until(position)
    assert bench.delivered().count(position) == 1
    assert bench.kept().count(upload) == 2


def test_a_router_whose_name_another_took_delivers_nothing_more(bench: KafkaRouterHarness) -> None:
    """It is fenced in the midst of its transaction, and what it had decided is its successor's."""
    first = bench.process()
    deposed = bench.route_until(first)
    second = bench.process()
    committing = threading.Event()
    commit = deposed.loop._clients.producer.commit
    deposed.loop._clients.producer.commit = lambda *_: committing.set()  # type: ignore[method-assign]
    deposed.run_until(committing.is_set)
    deposed.loop._clients.producer.commit = commit  # type: ignore[method-assign]
    deposed.loop._transaction._state = State.OPEN
    bench.route_until(second)
    with pytest.raises(Fenced):
        deposed.run_until(lambda: False)
    assert bench.delivered() == [first, second]


def test_a_router_that_is_assigned_nothing_is_ready(bench: KafkaRouterHarness) -> None:
    """Three routers on two partitions: the third stands by, and says so."""
    routers = [bench.router(instance=f"standby-{number}") for number in range(3)]
    assert not any(each.loop.is_assigned for each in routers)

    def all_are_told() -> bool:
        for each in routers:
            each.loop.run_once()
        busy = sum(each.loop.has_partitions for each in routers)
        return busy == 2 and all(each.loop.is_assigned for each in routers)

    eventually("each is told what is its own", all_are_told, deadline_s=40, poll_s=0)


def test_all_decisions_are_known_before_the_first_result_is_looked_at(
    bench: KafkaRouterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage reads them up to their mark while it starts, and has made no turn yet."""
    accounts = [AccountId(f"acct-{number}") for number in range(5)]
    owners = bench.consent()
    for account in accounts:
        owners.grant(account, actor="owner", channel=Channel.LIBRARY)
    owners.revoke(accounts[0], actor="owner", channel=Channel.LIBRARY)
    cluster = bench.kafka.cluster
    settings = Settings(
        kafka=KafkaSettings(
            bootstrap_servers=cluster.bootstrap_servers, identities=cluster.identities
        ),
        lanes={bench.lane: LaneSettings(partitions=PARTITIONS)},
        stage=StageSettings(instance=INSTANCE),
    )
    views: list[ConsentView] = []

    def router(*, view: ConsentView, **parts: Any) -> Router:
        views.append(view)
        return Router(view=view, **parts)

    monkeypatch.setattr(routing, "Router", router)
    with routing.router_stage(settings, threading.Event()):
        opted_in = [each for each in accounts if views[0].active_grant(bench.lane, each)]
    assert opted_in == accounts[1:]


def test_cutouts_made_anew_are_left_to_the_repair(bench: KafkaRouterHarness) -> None:
    """Provisioning begins nothing of which results were delivered; it names it instead."""
    before = [bench.process() for _ in range(3)]
    bench.route_until(*before).close()
    wait_until_group_is_empty(bench.kafka)
    topic = cutouts_of(bench.lane)
    bench.kafka.delete_topic(topic)
    catalog = bench.kafka.catalog()
    bench.kafka.provision(catalog)
    planned = plan(bench.kafka.admin, catalog)
    assert planned.changes == ()
    assert Partition(topic, 0) in planned.needs_repair
    assert Partition(topic, 1) not in planned.needs_repair
    assert_it_stops(bench, "no committed offset")

    wait_until_group_is_empty(bench.kafka)
    mender = RouterRecovery(
        connection=bench.kafka.connection("admin"), catalog=catalog, actor="operator:test"
    )
    mender.recover(bench.lane)
    assert Partition(topic, 0) not in plan(bench.kafka.admin, catalog).needs_repair
    for upload in (bench.process(), bench.process()):
        bench.route_until(upload).close()
    assert len(bench.delivered()) == len(before) + 2

"""One lane's partition breaks while the pipeline runs; customers of the other notice nothing."""

import urllib.request
from contextlib import closing

from confluent_kafka import Producer

from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.topics.admin.router_recovery import RouterRecovery
from erasestream.topics.admin.routing_evidence import is_broken
from erasestream.topics.catalog.topic_names import cutouts_of, ledger_of
from erasestream.topics.client.upload_producer import Receipt
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition
from tests.flow.pipeline_harness import BULK, SHOP, PipelineHarness
from tests.flow.topic_reader import results_of
from tests.flow.waiting import eventually

BROKEN = f"{cutouts_of(SHOP)}/0 undecidable_record"


def page(flow: PipelineHarness, path: str) -> str:
    """Return a page of the router's health port."""
    port = flow.wait_for_event("route", "starting")["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def findings(flow: PipelineHarness) -> list[Finding]:
    """Return the findings in the lane's ledger about quarantines."""
    records = flow.records(ledger_of(SHOP))
    found = [
        from_wire(Finding, r.headers, r.value) for r in records if type_of(r.headers) is Finding
    ]
    return [each for each in found if each.kind is FindingKind.PARTITION_QUARANTINED]


def write_garbage(flow: PipelineHarness) -> None:
    """Write a result that is none, as an inference stage with a fault might."""
    producer = Producer(flow.stack.admin().settings(ClientErrorState()))
    producer.produce(cutouts_of(SHOP), b"garbage", None, 0)
    assert producer.flush(20) == 0


def upload_to_broken_partition(flow: PipelineHarness) -> Receipt:
    """Upload until one is in the first partition; the others get their results meanwhile."""
    while (receipt := flow.upload("behind")).partition != 0:
        flow.cutout(receipt.upload_id)
    return receipt


def test_a_broken_partition_disturbs_no_other_lane(fragile: PipelineHarness) -> None:
    """Health, gauge and ledger name it; after the repair its own results arrive, once each."""
    flow = fragile
    write_garbage(flow)
    eventually("the router names it", lambda: BROKEN in page(flow, "/readyz").splitlines())
    labels = f'topic="{cutouts_of(SHOP)}",partition="0",code="undecidable_record"'
    assert labels in page(flow, "/metrics")
    waiting = upload_to_broken_partition(flow)
    for number in range(5):
        flow.cutout(flow.upload(f"other-{number}", lane=BULK).upload_id, BULK)
    (finding,) = eventually("the finding", lambda: findings(flow))
    assert finding.detail.startswith(f"{cutouts_of(SHOP)}/0 at ")
    assert results_of(flow.results(), waiting.upload_id) == []
    recovery = RouterRecovery(
        connection=flow.stack.admin(), catalog=flow.stack.catalog(), actor="operator:test"
    )
    broken = Partition(cutouts_of(SHOP), 0)
    with closing(recovery):
        # The finding is acknowledged before the flag is committed.
        eventually("the flag", lambda: is_broken(recovery._committed(broken)))
        repaired, unchanged = recovery.recover(SHOP)
    assert "left unchanged" not in repaired
    assert "left unchanged" in unchanged
    flow.cutout(waiting.upload_id)
    eventually("it is released", lambda: page(flow, "/readyz") == "ok\n")
    assert flow.stack.stage("route").process_id is not None

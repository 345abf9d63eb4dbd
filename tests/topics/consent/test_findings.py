"""Findings about consent records, and the partitioners that cause them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from itertools import count

import pytest
from confluent_kafka import KafkaError, Message, Producer

from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.events.ledger import FindingKind
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.catalog.roles import ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.consent.ledger_place import place_of_findings
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import OWNER, partition_counts, read_findings, writer


def router_view(kafka: KafkaFixture, lane: Lane, findings: LedgerFindings) -> ConsentView:
    """Open the view of the router, caught up."""
    opened = ConsentView(
        connection=kafka.connection(ROUTER),
        catalog=kafka.catalog(),
        lanes=(lane,),
        report=findings.report,
    )
    opened.catch_up(opened.mark(), deadline_s=60)
    return opened


@pytest.fixture
def findings(kafka: KafkaFixture) -> LedgerFindings:
    writes = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=10)
    return LedgerFindings(writes=writes, partitions=partition_counts(kafka))


def numbered_accounts() -> Iterator[AccountId]:
    return (AccountId(f"acct-{number}") for number in count())


def send_with_partitioner(
    kafka: KafkaFixture, lane: Lane, account: AccountId, partitioner: str
) -> int:
    """Write a grant as another client, and return the partition that it chose."""
    role = lane_role(lane, LaneRole.ACCOUNT)
    producer = Producer(
        kafka.connection(role).settings(ClientErrorState(), partitioner=partitioner)
    )
    producer.list_topics(consent_of(lane), timeout=60)
    now = datetime.now(UTC)  # last: a grant that takes 5 s to be appended is void
    event = ConsentDecision(
        id=new_upload_id(int(now.timestamp() * 1000), bytes(10)),
        time=now,
        account=account,
        decision=Decision.GRANTED,
        actor="owner",
        channel=Channel.LIBRARY,
    )
    wire = to_wire(event, source="/stranger")
    landed: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        landed.append(message.partition() or 0)

    producer.produce(
        consent_of(lane),
        wire.value,
        account.encode(),
        on_delivery=delivered,
        headers=list(wire.headers),
    )
    assert producer.flush(20) == 0
    return landed[0]


def test_javas_default_partitioner_is_ours(
    kafka: KafkaFixture, lane: Lane, findings: LedgerFindings
) -> None:
    accounts = [account for account, _ in zip(numbered_accounts(), range(8), strict=False)]
    partitions = kafka.catalog()[consent_of(lane)].partitions
    for account in accounts:
        landed = send_with_partitioner(kafka, lane, account, "murmur2_random")
        assert landed == partition_of(account.encode(), partitions)
    known = router_view(kafka, lane, findings)
    try:
        assert all(known.active_grant(lane, account) for account in accounts)
    finally:
        known.close()


def test_another_partitioner_opts_no_account_in_and_is_a_finding(
    kafka: KafkaFixture, lane: Lane, findings: LedgerFindings
) -> None:
    """Librdkafka's default: the account is ephemeral, even after a grant in the right partition."""
    partitions = kafka.catalog()[consent_of(lane)].partitions
    for account in numbered_accounts():
        landed = send_with_partitioner(kafka, lane, account, "consistent_random")
        if landed != partition_of(account.encode(), partitions):
            break
    writer(kafka, lane).grant(account, **OWNER)
    known = router_view(kafka, lane, findings)
    try:
        assert known.active_grant(lane, account) is None
    finally:
        known.close()
    write_all(findings)
    found = [each for each in read_findings(kafka, lane) if f"{consent_of(lane)}/" in each.detail]
    assert {each.kind for each in found} == {FindingKind.CONSENT_IN_WRONG_PARTITION}
    assert all(account not in each.detail for each in found)


def write_all(findings: LedgerFindings, *, but: int = 0) -> None:
    """Write until no finding waits, or so many."""
    eventually("all are written", lambda: findings.write_one() or len(findings) <= but)


def test_repeated_findings_have_one_id(
    kafka: KafkaFixture, lane: Lane, findings: LedgerFindings
) -> None:
    """Found by two routers, or twice by one."""
    at = Partition(consent_of(lane), 1)
    for _ in range(2):
        findings.report(FindingKind.CONSENT_UNREADABLE, at, 7)
        findings.report(FindingKind.CONSENT_UNREADABLE, at, 8)
    write_all(findings)
    found = [each for each in read_findings(kafka, lane) if each.detail.startswith(f"{at} at ")]
    assert len(found) == 4
    assert len({each.id for each in found}) == 2


def test_a_flood_of_findings_becomes_one_entry_with_a_count(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Above the bound only the number and the first record are kept; other kinds are unaffected."""
    writes = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=10)
    findings = LedgerFindings(writes=writes, partitions=partition_counts(kafka), max_waiting=2)
    unreadable, misplaced = (
        FindingKind.CONSENT_UNREADABLE,
        FindingKind.CONSENT_IN_WRONG_PARTITION,
    )
    for offset in range(100):
        findings.report(unreadable, Partition(consent_of(lane), offset % 2), offset)
    findings.report(misplaced, Partition(consent_of(lane), 3), 7)
    write_all(findings)
    findings.report(unreadable, Partition(consent_of(lane), 1), 101)
    write_all(findings)
    topic = consent_of(lane)
    found = [each for each in read_findings(kafka, lane) if f"{topic}/" in each.detail]
    assert [(each.kind, each.detail) for each in found] == [
        (unreadable, f"{topic}/0 at 0"),
        (unreadable, f"{topic}/1 at 1"),
        (unreadable, f"98 records from {topic}/0 at 2 on"),
        (misplaced, f"{topic}/3 at 7"),
        (unreadable, f"{topic}/1 at 101"),
    ]
    assert len({each.id for each in found}) == len(found)


class SilentPartition(AcknowledgedWriter):
    """A writer for which one partition does not answer."""

    silent: Partition

    def begin(self, records: Sequence[tuple[Partition, bytes, Wire]]) -> list[Future[Written]]:
        write = super().begin
        return [Future() if each[0] == self.silent else write([each])[0] for each in records]


def test_a_lane_whose_ledger_does_not_answer_holds_up_no_other(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """However many findings it has, and although they were found first."""
    other = kafka.open_lane()
    counts = partition_counts(kafka)
    writes = SilentPartition(connection=kafka.connection(ROUTER), timeout_s=10)
    writes.silent = place_of_findings(lane, counts).at
    findings = LedgerFindings(writes=writes, partitions=counts)
    for each in (lane, other):
        for offset in range(3):
            findings.report(FindingKind.CONSENT_UNREADABLE, Partition(consent_of(each), 0), offset)
    write_all(findings, but=3)
    assert len(read_findings(kafka, other)) == 3
    assert read_findings(kafka, lane) == []

"""Each rule of consent, with somebody who breaks it, on a real broker."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from confluent_kafka import KafkaError, Message, Producer

from erasestream.pipeline.stages.erasure.stage import EraserStage
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.events.ledger import ErasureEntry, FindingKind
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.topics.admin.provisioning import plan
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import OPERATOR, ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import ERASURES, LEDGER, consent_of
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.consent.ledger_view import ledger_key
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.consent.writer import ConsentWriter, OperatorPolicy
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.deciding import OWNER, Vault, at_work, eraser, ledger, writer


def seconds_ago(seconds: float) -> Callable[[], float]:
    """A clock at the moment when something was begun, before it was held up."""
    at = datetime.now(UTC).timestamp() - seconds
    return lambda: at


def view(kafka: KafkaFixture, lane: Lane, findings: LedgerFindings) -> ConsentView:
    """As the router has it."""
    view = ConsentView(
        connection=kafka.connection(ROUTER),
        catalog=kafka.catalog(),
        lanes=(lane,),
        report=findings.report,
    )
    view.catch_up(view.mark(), deadline_s=20)
    return view


@pytest.fixture
def findings(kafka: KafkaFixture) -> LedgerFindings:
    """What the router writes to the ledger."""
    writes = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=10)
    return LedgerFindings(writes=writes, ledger_partitions=kafka.catalog()[LEDGER].partitions)


def test_two_writers_at_once_leave_two_grants_and_a_revocation_ends_both(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Both look before either writes; the last one is in force, and neither is forgotten."""
    both_have_looked = threading.Barrier(2, timeout=20)

    def clock() -> float:
        both_have_looked.wait()
        return datetime.now(UTC).timestamp()

    writers = [writer(kafka, lane, clock) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda each: each.grant("acct", **OWNER), writers))
    grants = {each.grant for each in made}
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    standing = reader.active_grant("acct")
    assert len(grants) == 2
    assert standing
    assert standing.grant in grants
    writer(kafka, lane).revoke("acct", **OWNER)
    assert reader.active_grant("acct") is None
    assert set(reader.unerased_grants("acct")) == grants


def test_a_grant_that_was_held_up_does_not_undo_a_revocation(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Begun before the revocation and appended after it: void, also for the router."""
    other = writer(kafka, lane)
    other.grant("acct", **OWNER)
    other.revoke("acct", **OWNER)
    with pytest.raises(Unavailable, match="too late"):
        writer(kafka, lane, seconds_ago(6)).grant("acct", **OWNER)
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    assert reader.active_grant("acct") is None
    made = [entry.decision for entry in reader.history("acct")]
    assert made == [Decision.GRANTED, Decision.REVOKED, Decision.GRANTED]


@pytest.fixture
def vault() -> Vault:
    """An empty one."""
    return Vault()


@pytest.fixture
def erasing(kafka: KafkaFixture, lane: Lane, vault: Vault) -> Iterator[EraserStage]:
    """The eraser at work on the lane."""
    with at_work(kafka, lane, vault) as stage:
        yield stage


def test_a_revocation_is_confirmed_only_when_its_markers_stand(
    kafka: KafkaFixture, lane: Lane, vault: Vault, erasing: EraserStage
) -> None:
    """While the vault is away it is recorded and honoured, but nobody says confirmed."""
    assert erasing.count == 0
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    revoked = writes.revoke("acct", **OWNER)
    assert writes.reader.active_grant("acct") is None
    with pytest.raises(Unavailable, match="1 grants are not marked"):
        writes.await_confirmed("acct", revoked, timeout_s=1)
    assert writes.reader.unerased_grants("acct") == [grant]
    vault.is_away = False
    writes.await_confirmed("acct", revoked, timeout_s=30)
    assert vault.marked == {grant}
    assert writes.reader.unerased_grants("acct") == []


def test_nobody_believes_a_forged_erasure(kafka: KafkaFixture, lane: Lane) -> None:
    """Another lane's service writes one to the ledger; to `erasures` the broker lets no lane."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    assert grant
    revoked = writes.revoke("acct", **OWNER)
    now = datetime.now(UTC)
    account = AccountId("acct")
    forged = to_wire(
        ErasureEntry(
            id=new_upload_id(int(now.timestamp() * 1000), bytes(10)),
            time=now,
            lane=lane,
            account=account,
            grant=grant,
        ),
        source="/eraser",
    )
    key = ledger_key(lane, account)
    role = lane_role(kafka.open_lane(), LaneRole.ACCOUNT)
    forger = AcknowledgedWriter(connection=kafka.connection(role), timeout_s=10)
    number = partition_of(key, kafka.catalog()[LEDGER].partitions)
    forger.write(Partition(LEDGER, number), key, forged)
    with pytest.raises(Refused):
        forger.write(Partition(ERASURES, number), key, forged)
    assert writes.reader.unerased_grants("acct") == [grant]
    with pytest.raises(Unavailable, match="1 grants are not marked"):
        writes.await_confirmed("acct", revoked, timeout_s=0)


class DyingVault(Vault):
    """The process dies right after the marker was created."""

    def mark(self, grant: GrantId) -> None:
        """Create it, and die."""
        self.marked.add(grant)
        raise KeyboardInterrupt


def test_an_eraser_that_dies_before_it_says_so_says_so_later(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Its successor finds the decision again, and the marker; then it is confirmed."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    writes.revoke("acct", **OWNER)
    dying, vault = DyingVault(), Vault()
    with eraser(kafka, lane, dying, threading.Event()) as first:

        def has_died() -> bool:
            try:
                first.run_once()
            except KeyboardInterrupt:
                return True
            return False

        eventually("it dies", has_died, poll_s=0)
    assert dying.marked == {grant}
    assert writes.reader.unerased_grants("acct") == [grant]
    vault.is_away = False
    with eraser(kafka, lane, vault, threading.Event()) as second:

        def has_confirmed() -> bool:
            second.run_once()
            return not writes.reader.unerased_grants("acct")

        eventually("it is confirmed", has_confirmed, poll_s=0)
    assert vault.marked == {grant}


def numbered() -> Iterator[AccountId]:
    """Accounts, one after another."""
    return (AccountId(f"acct-{number}") for number in count())


def send(kafka: KafkaFixture, lane: Lane, account: AccountId, partitioner: str) -> int:
    """Write a grant as another client would, which picks the partition itself; that."""
    now = datetime.now(UTC)
    event = ConsentDecision(
        id=new_upload_id(int(now.timestamp() * 1000), bytes(10)),
        time=now,
        account=account,
        decision=Decision.GRANTED,
        actor="owner",
        channel=Channel.LIBRARY,
    )
    wire = to_wire(event, source="/stranger")
    role = lane_role(lane, LaneRole.ACCOUNT)
    producer = Producer(
        kafka.connection(role).settings(ClientErrorState(), partitioner=partitioner)
    )
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


def test_javas_partitioner_is_ours(
    kafka: KafkaFixture, lane: Lane, findings: LedgerFindings
) -> None:
    """What a Java service writes with its default lies where we look for it."""
    accounts = [account for account, _ in zip(numbered(), range(8), strict=False)]
    partitions = kafka.catalog()[consent_of(lane)].partitions
    for account in accounts:
        landed = send(kafka, lane, account, "murmur2_random")
        assert landed == partition_of(account.encode(), partitions)
    known = view(kafka, lane, findings)
    try:
        assert all(known.active_grant(lane, account) for account in accounts)
    finally:
        known.close()


def test_another_partitioner_opts_nobody_in_and_is_a_finding(
    kafka: KafkaFixture, lane: Lane, findings: LedgerFindings
) -> None:
    """Librdkafka's default: the account is ephemeral, also after a grant in the right place."""
    partitions = kafka.catalog()[consent_of(lane)].partitions
    for account in numbered():
        landed = send(kafka, lane, account, "consistent_random")
        if landed != partition_of(account.encode(), partitions):
            break
    writer(kafka, lane).grant(account, **OWNER)
    known = view(kafka, lane, findings)
    try:
        assert known.active_grant(lane, account) is None
    finally:
        known.close()
    write_all(findings)
    found = [each for each in ledger(kafka) if f"{consent_of(lane)}/" in each.detail]
    assert {each.kind for each in found} == {FindingKind.CONSENT_IN_WRONG_PARTITION}
    assert all(account not in each.detail for each in found)


def write_all(findings: LedgerFindings) -> None:
    """More often than anything waits."""
    for _ in range(20):
        findings.write_one()


def test_a_finding_is_the_same_each_time(
    kafka: KafkaFixture, lane: Lane, findings: LedgerFindings
) -> None:
    """Two routers, or one twice, find one thing: their entries have one id."""
    at = Partition(consent_of(lane), 1)
    for _ in range(2):
        findings.report(FindingKind.CONSENT_UNREADABLE, at, 7)
        findings.report(FindingKind.CONSENT_UNREADABLE, at, 8)
    write_all(findings)
    found = [each for each in ledger(kafka) if each.detail.startswith(f"{at} at ")]
    assert len(found) == 4
    assert len({each.id for each in found}) == 2


def test_findings_without_end_become_one_that_counts(kafka: KafkaFixture, lane: Lane) -> None:
    """Beyond the bound nothing more is kept than how many and from where; others stand alone."""
    writes = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=10)
    partitions = kafka.catalog()[LEDGER].partitions
    findings = LedgerFindings(writes=writes, ledger_partitions=partitions, max_waiting=2)
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
    found = [each for each in ledger(kafka) if f"{topic}/" in each.detail]
    assert [(each.kind, each.detail) for each in found] == [
        (unreadable, f"{topic}/0 at 0"),
        (unreadable, f"{topic}/1 at 1"),
        (unreadable, f"98 records from {topic}/0 at 2 on"),
        (misplaced, f"{topic}/3 at 7"),
        (unreadable, f"{topic}/1 at 101"),
    ]
    assert len({each.id for each in found}) == len(found)


def test_consent_topics_never_grow(kafka: KafkaFixture, lane: Lane) -> None:
    """With another count every account would lie elsewhere."""
    declared = kafka.catalog()
    more = Catalog.build(declared.lanes, durability=declared.durability, shared_partitions=5)
    with pytest.raises(Refused, match=r"consent\.\S+ has 4 partitions, and that never changes"):
        plan(kafka.admin, more)
    assert kafka.admin.partition_counts()[consent_of(lane)] == 4


@pytest.mark.parametrize(
    ("role", "channel"),
    [(OPERATOR, Channel.OPERATOR), (OPERATOR, Channel.ACCOUNT_PAGE), (None, Channel.OPERATOR)],
    ids=["operator", "operator in disguise", "operator's channel"],
)
def test_operators_only_revoke(
    kafka: KafkaFixture, lane: Lane, role: str | None, channel: Channel
) -> None:
    """Whatever channel they name; nothing is written, and revoking is theirs."""
    connection = kafka.connection(role or lane_role(lane, LaneRole.ACCOUNT))
    operator = ConsentWriter(connection=connection, lane=lane)
    with pytest.raises(Refused, match="only revoke"):
        operator.grant("acct", actor="operator:ann", channel=channel)
    assert operator.reader.history("acct") == []
    assert operator.revoke("acct", actor="operator:ann", channel=channel).written


def test_developers_may_grant(kafka: KafkaFixture, lane: Lane) -> None:
    """In a stack that is marked so; the ledger names who and through what."""
    developer = ConsentWriter(
        connection=kafka.connection(OPERATOR), lane=lane, operators=OperatorPolicy.GRANT_AND_REVOKE
    )
    assert developer.grant("acct", actor="operator:ann", channel=Channel.OPERATOR).written
    (entry,) = developer.reader.history("acct")
    assert (entry.actor, entry.channel) == ("operator:ann", Channel.OPERATOR)


def test_a_revocation_that_is_late_counts(kafka: KafkaFixture, lane: Lane) -> None:
    """Only grants are void: a revocation wins every race, however long it took."""
    writer(kafka, lane).grant("acct", **OWNER)
    late = writer(kafka, lane, seconds_ago(timedelta(hours=1).total_seconds()))
    late.revoke("acct", **OWNER)
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    assert reader.active_grant("acct") is None

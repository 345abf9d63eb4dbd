"""The eraser where something is away or out of date, on a real broker."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

import pytest

from erasestream.pipeline.stages.erasure import grant_eraser, stage
from erasestream.pipeline.stages.erasure.stage import LEDGER_LAG_S, EraserStage
from erasestream.schemas.codec.cloudevents import Wire, from_wire, type_of
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import ErasureEntry, FindingKind
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.topics.catalog.roles import ADMIN, ERASER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import ERASURES, LEDGER, consent_of
from erasestream.topics.consent.compaction_heartbeat import CompactionHeartbeat
from erasestream.topics.consent.ledger_view import LedgerView, ledger_key
from erasestream.topics.consent.writer import RecordedDecision
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition
from tests.flow.topic_reader import TopicReader
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.deciding import (
    ACCOUNT,
    OWNER,
    Vault,
    at_work,
    eraser,
    foreign_grant,
    ledger,
    writer,
)


class Deposed(LedgerView):
    """A view that is told the mark of before, by a leader that does not know better."""

    is_deposed = True
    is_away = False

    def catch_up(self, *, deadline_s: float) -> set[Partition]:
        """Go nowhere, as long as nobody says that there is more."""
        if not self.is_deposed:
            return super().catch_up(deadline_s=deadline_s)
        return set() if self.is_away else set(self._view.applied)


class Clock:
    """Time as the test wants it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now


@pytest.fixture
def vault() -> Vault:
    """One that is there."""
    vault = Vault()
    vault.is_away = False
    return vault


@pytest.fixture
def clock() -> Clock:
    """The stage's."""
    return Clock()


Start = Callable[[], EraserStage]


@pytest.fixture
def start(
    kafka: KafkaFixture, lane: Lane, vault: Vault, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts erasers whose ledger is shown by a deposed leader; the one before ends."""
    monkeypatch.setattr(Deposed, "is_deposed", True)
    with ExitStack() as running:

        def started() -> EraserStage:
            running.close()
            stopping = threading.Event()
            return running.enter_context(
                eraser(kafka, lane, vault, stopping, ledger=Deposed, clock=clock)
            )

        yield started


def waiting(working: EraserStage) -> int:
    """How many decisions wait."""
    return len(working.waiting)


def run_until(what: str, working: EraserStage, condition: Callable[[], object]) -> None:
    """Let it work until the condition is true; at least once."""

    def holds() -> bool:
        working.run_once()
        return bool(condition())

    eventually(what, holds, poll_s=0)


def test_a_decision_waits_for_a_ledger_that_shows_it(
    kafka: KafkaFixture, lane: Lane, vault: Vault, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old mark is no reason to find that there was nothing to erase, nor to commit that."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    revoked = writes.revoke("acct", **OWNER)
    first = start()

    run_until("both decisions wait", first, lambda: waiting(first) == 2)
    assert vault.marked == set()
    with pytest.raises(Unavailable, match="1 grants are not marked"):
        writes.await_confirmed("acct", revoked, timeout_s=0)
    second = start()
    monkeypatch.setattr(Deposed, "is_deposed", False)

    run_until("it is marked: nothing was committed", second, lambda: bool(vault.marked))
    assert vault.marked == {grant}
    writes.await_confirmed("acct", revoked, timeout_s=30)


def test_one_that_waits_holds_up_no_other(
    kafka: KafkaFixture,
    lane: Lane,
    vault: Vault,
    start: Start,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A record without an entry, by whoever; after its time it ends what it grants itself."""
    monkeypatch.setattr(Deposed, "is_deposed", False)
    foreign = foreign_grant(kafka, lane, "stranger")
    nobodys = foreign_grant(kafka, lane, "stranger-2", key=b"nobody can be called so")
    writes = writer(kafka, lane)
    writes.grant("acct", **OWNER)
    revoked = writes.revoke("acct", **OWNER)
    working = start()

    run_until("the other is confirmed", working, lambda: not writes.reader.unerased_grants("acct"))
    writes.await_confirmed("acct", revoked, timeout_s=0)
    assert waiting(working) == 1
    assert foreign not in vault.marked
    clock.now += LEDGER_LAG_S + 1

    run_until("it is over", working, lambda: not waiting(working))
    working.run_once()
    assert foreign in vault.marked
    assert nobodys not in vault.marked
    found = [each for each in ledger(kafka) if f"{consent_of(lane)}/" in each.detail]
    assert [each.kind for each in found] == [FindingKind.CONSENT_NOT_IN_LEDGER]


def test_nothing_is_confirmed_that_the_ledger_does_not_show(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Asked of a leader that has neither the revocation nor the grant: not 'nothing is open'."""
    writes = writer(kafka, lane)
    revoked = writes.revoke("acct", **OWNER)
    unseen = revoked._replace(decision_id=new_upload_id(77, bytes(10)))
    with pytest.raises(Unavailable, match="does not show"):
        writes.await_confirmed("acct", unseen, timeout_s=0)


def test_an_unreadable_record_does_not_end_what_comes_later(
    kafka: KafkaFixture, lane: Lane, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The eraser comes late: the grant after the record stands in the ledger already."""
    monkeypatch.setattr(stage, "MAX_CLOCK_SKEW", stage.MAX_CLOCK_SKEW * 0)
    writes = writer(kafka, lane)
    first = writes.grant("acct", **OWNER)
    role = lane_role(lane, LaneRole.ACCOUNT)
    stranger = AcknowledgedWriter(connection=kafka.connection(role), timeout_s=10)
    stranger.write(writes.reader.place(ACCOUNT), b"acct", Wire(headers=[], value=b"?"))
    assert writes.reader.active_grant("acct") is None
    second = writes.grant("acct", **OWNER)
    with at_work(kafka, lane, vault) as working:
        eventually("the first is marked", lambda: first.grant in vault.marked)
        writes.grant("later", **OWNER)
        writes.revoke("later", **OWNER)
        eventually("what came later is handled", lambda: working.count == 2)
    assert second.grant not in vault.marked


def test_a_partition_without_a_heartbeat_holds_up_no_decision(
    kafka: KafkaFixture, lane: Lane, vault: Vault
) -> None:
    """The beat fails, which is said; the revocation is confirmed."""

    def beat() -> None:
        raise Unavailable("a consent partition")

    writes = writer(kafka, lane)
    writes.grant("acct", **OWNER)
    revoked = writes.revoke("acct", **OWNER)
    with at_work(kafka, lane, vault, beat=beat):
        writes.await_confirmed("acct", revoked, timeout_s=30)
    assert len(vault.marked) == 1


class OneAway(AcknowledgedWriter):
    """One partition is away."""

    away: Partition | None = None

    def write_all(self, records: Sequence[tuple[Partition, bytes, Wire]]) -> list[Future[Written]]:
        """Write those that belong into another one."""
        return [self._answer(record) for record in records]

    def _answer(self, record: tuple[Partition, bytes, Wire]) -> Future[Written]:
        if record[0] != self.away:
            return super().write_all([record])[0]
        away: Future[Written] = Future()
        away.set_exception(Unavailable(str(self.away)))
        return away


def test_all_but_the_partition_that_is_away_get_their_heartbeats(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """However often it fails."""
    topic = consent_of(lane)
    count = kafka.catalog()[topic].partitions
    writes = OneAway(connection=kafka.connection(ERASER), timeout_s=20)
    writes.away = Partition(topic, 1)
    beats = CompactionHeartbeat(writes=writes, partitions={topic: count})
    ends = [kafka.offsets.log_end(Partition(topic, n)) for n in range(count)]
    for _ in range(2):
        with pytest.raises(Unavailable, match=f"{topic}/1"):
            beats.beat()
    now = [kafka.offsets.log_end(Partition(topic, n)) for n in range(count)]
    assert [b - a for a, b in zip(ends, now, strict=True)] == [2, 0] + [2] * (count - 2)
    writes.away = None
    beats.beat()
    assert kafka.offsets.log_end(Partition(topic, 1)) == ends[1] + 1


def test_what_is_erased_is_not_erased_again(kafka: KafkaFixture, lane: Lane, vault: Vault) -> None:
    """Not by the next revocation, nor by the next eraser, which reads what was confirmed."""
    writes = writer(kafka, lane)
    grants: set[GrantId | None] = set()

    def decide() -> RecordedDecision:
        grants.add(writes.grant("acct", **OWNER).grant)
        return writes.revoke("acct", **OWNER)

    with at_work(kafka, lane, vault) as first:
        for _ in range(2):
            writes.await_confirmed("acct", decide(), timeout_s=30)
    assert first.count == len(grants)
    with at_work(kafka, lane, vault) as second:
        writes.await_confirmed("acct", decide(), timeout_s=30)
    assert second.count == 1
    assert vault.marked == grants


def erasures_of(kafka: KafkaFixture, lane: Lane, account: AccountId) -> Partition:
    """Where it is said what was erased of an account."""
    count = kafka.catalog()[ERASURES].partitions
    return Partition(ERASURES, partition_of(ledger_key(lane, account), count))


def test_an_erasure_that_was_not_confirmed_is_made_again(
    kafka: KafkaFixture, lane: Lane, vault: Vault
) -> None:
    """The marker stands, and the eraser ended before it could say so."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    revoked = writes.revoke("acct", **OWNER)
    stopping = threading.Event()
    speechless = OneAway(connection=kafka.connection(ERASER), timeout_s=20)
    speechless.away = erasures_of(kafka, lane, ACCOUNT)
    with eraser(kafka, lane, vault, stopping, writes=speechless) as first:
        run_until("it is marked", first, lambda: bool(vault.marked) and waiting(first) == 1)
    assert vault.marked == {grant}
    with pytest.raises(Unavailable, match="1 grants are not marked"):
        writes.await_confirmed("acct", revoked, timeout_s=0)
    with at_work(kafka, lane, vault) as second:
        writes.await_confirmed("acct", revoked, timeout_s=30)
    assert second.count == 1


def test_a_partition_that_is_away_holds_up_only_what_lies_there(
    kafka: KafkaFixture, lane: Lane, vault: Vault
) -> None:
    """And is done once it is back, although nothing new comes."""
    writes = writer(kafka, lane)
    away = erasures_of(kafka, lane, ACCOUNT)
    names = (AccountId(f"acct-{number}") for number in itertools.count())
    other = next(name for name in names if erasures_of(kafka, lane, name) != away)
    for account in (ACCOUNT, other):
        writes.grant(account, **OWNER)
    held_up, revoked = writes.revoke(ACCOUNT, **OWNER), writes.revoke(other, **OWNER)
    notes = OneAway(connection=kafka.connection(ERASER), timeout_s=20)
    notes.away = away
    with at_work(kafka, lane, vault, writes=notes) as working:
        writes.await_confirmed(other, revoked, timeout_s=30)
        eventually("the first waits", lambda: waiting(working) == 1)
        with pytest.raises(Unavailable, match="1 grants are not marked"):
            writes.await_confirmed(ACCOUNT, held_up, timeout_s=0)
        notes.away = None
        writes.await_confirmed(ACCOUNT, held_up, timeout_s=30)
        eventually("nothing waits", lambda: waiting(working) == 0)


def test_no_entry_is_missing_as_long_as_no_leader_shows_the_ledger(
    kafka: KafkaFixture,
    lane: Lane,
    vault: Vault,
    start: Start,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long that is: what is granted meanwhile stands."""
    monkeypatch.setattr(Deposed, "is_away", True)
    writes = writer(kafka, lane)
    granted = writes.grant("acct", **OWNER)
    working = start()

    run_until("it waits", working, lambda: waiting(working) == 1)
    clock.now += 2 * LEDGER_LAG_S
    working.run_once()
    clock.now += 2 * LEDGER_LAG_S
    monkeypatch.setattr(Deposed, "is_away", False)
    working.run_once()
    assert waiting(working) == 1
    monkeypatch.setattr(Deposed, "is_deposed", False)

    run_until("it is done", working, lambda: waiting(working) == 0)
    assert vault.marked == set()
    assert writes.reader.active_grant("acct") == (granted.grant, granted.at)


def test_what_can_not_be_confirmed_is_marked_and_written_once(
    kafka: KafkaFixture, lane: Lane, vault: Vault
) -> None:
    """However long `erasures` takes nothing: the ledger is kept for ever."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    revoked = writes.revoke("acct", **OWNER)
    notes = OneAway(connection=kafka.connection(ERASER), timeout_s=20)
    notes.away = erasures_of(kafka, lane, ACCOUNT)
    with eraser(kafka, lane, vault, threading.Event(), writes=notes) as working:
        run_until("it is marked", working, lambda: bool(vault.marked))
        ends = ledger_ends(kafka)
        vault.marked.clear()
        for _ in range(3):
            working.run_once()
        assert (ledger_ends(kafka), vault.marked) == (ends, set())
        assert waiting(working) == 1
        notes.away = None
        working.run_once()
    writes.await_confirmed("acct", revoked, timeout_s=0)
    assert grant is not None


def test_both_topics_have_the_same_entry(kafka: KafkaFixture, lane: Lane, vault: Vault) -> None:
    """One id and one time: who compares them finds one erasure."""
    writes = writer(kafka, lane)
    writes.grant("acct", **OWNER)
    revoked = writes.revoke("acct", **OWNER)
    with at_work(kafka, lane, vault):
        writes.await_confirmed("acct", revoked, timeout_s=30)
    in_ledger, in_erasures = (erasures_in(kafka, lane, each) for each in (LEDGER, ERASURES))
    assert len(in_ledger) == 1
    assert in_ledger == in_erasures


def erasures_in(kafka: KafkaFixture, lane: Lane, topic: str) -> list[ErasureEntry]:
    """The erasures of the account that a topic has."""
    reader = TopicReader(kafka.cluster, ADMIN, topic, kafka.catalog()[topic].partitions)
    try:
        records = reader.read_to_end()
    finally:
        reader.close()
    ours = [each for each in records if each.key == ledger_key(lane, ACCOUNT)]
    return [
        from_wire(ErasureEntry, each.headers, each.value)
        for each in ours
        if type_of(each.headers) is ErasureEntry
    ]


def ledger_ends(kafka: KafkaFixture) -> list[int]:
    """How far the ledger reaches."""
    partitions = kafka.catalog()[LEDGER].partitions
    return [kafka.offsets.log_end(Partition(LEDGER, number)) for number in range(partitions)]


def test_a_decision_in_doubt_is_reported_once(
    kafka: KafkaFixture,
    lane: Lane,
    vault: Vault,
    start: Start,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if what it ends can not be erased for a while."""
    monkeypatch.setattr(Deposed, "is_deposed", False)
    foreign = foreign_grant(kafka, lane, "stranger")
    working = start()

    run_until("it waits", working, lambda: waiting(working) == 1)
    vault.is_away = True
    clock.now += LEDGER_LAG_S + 1
    for _ in range(3):
        working.run_once()
    vault.is_away = False
    working.run_once()
    working.run_once()
    assert foreign in vault.marked
    found = [each for each in ledger(kafka) if f"{consent_of(lane)}/" in each.detail]
    assert [each.kind for each in found] == [FindingKind.CONSENT_NOT_IN_LEDGER]


def test_a_vault_that_is_away_is_asked_once_in_a_turn(
    kafka: KafkaFixture, lane: Lane, vault: Vault
) -> None:
    """And nobody is confirmed."""
    writes = writer(kafka, lane)
    for _ in range(30):
        writes.grant("acct", **OWNER)
        revoked = writes.revoke("acct", **OWNER)
    vault.is_away = True
    with eraser(kafka, lane, vault, threading.Event()) as working:
        run_until("all is read", working, lambda: waiting(working) == 59)  # all but the first grant
        vault.asked = 0
        working.run_once()
        assert 1 <= vault.asked <= grant_eraser.AT_ONCE
        vault.is_away = False
        working.run_once()
    writes.await_confirmed("acct", revoked, timeout_s=0)

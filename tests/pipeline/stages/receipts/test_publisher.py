"""Receipts reach account pages once they are cosigned, each once."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import pytest

from erasestream.pipeline.stages.receipts import publisher
from erasestream.pipeline.stages.receipts.leaves import Attested, LeafBuilder
from erasestream.pipeline.stages.receipts.publisher import ReceiptPublisher, ReceiptQueue
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import ProofRefused
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.events.ledger import MAX_RECEIPT, DecisionEntry, ReceiptIssued
from erasestream.schemas.events.receipts import Receipts
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.catalog.topic_names import ledger_of, receipts_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.kafka.records import Partition, Record

LANE, ACCOUNT = Lane("web"), AccountId("acct")
NOW = datetime(2026, 11, 30, tzinfo=UTC)
LEDGER, ISSUED = {ledger_of(LANE): 2}, {receipts_of(LANE): 2}
BUILDER = LeafBuilder(receipts=Receipts(bytes(32)), partitions=LEDGER, software="1")


def record(topic: str, counts: dict[str, int], event: Event) -> Record:
    at, key = place(topic, ACCOUNT, counts)
    wire = to_wire(event, source="/test")
    return Record(at, 0, 0, key, wire.headers, wire.value)


def decision(number: int) -> Record:
    entry = DecisionEntry(
        id=new_upload_id(number, bytes(10)),
        time=NOW,
        lane=LANE,
        account=ACCOUNT,
        decision=Decision.REVOKED,
        actor="owner",
        channel=Channel.LIBRARY,
    )
    return record(ledger_of(LANE), LEDGER, entry)


class Topic:
    """A topic in memory."""

    def __init__(self, apply: Callable[[Record], None], records: Sequence[Record] = ()) -> None:
        self.waiting = list(records)
        self.is_silent = False
        self._apply = apply

    def read(self, _timeout_s: float) -> int:
        records, self.waiting = self.waiting, []
        for each in records:
            self._apply(each)
        return len(records)

    def catch_up_reachable(
        self, partitions: Iterable[Partition], *, deadline_s: float
    ) -> set[Partition]:
        if self.is_silent:
            return set()
        self.read(deadline_s)
        return set(partitions)

    def replace_if_lost(self) -> None:
        """Keep it."""


class Log:
    """Issues receipts of the leaves that are cosigned."""

    def __init__(self) -> None:
        self.cosigned: set[str] = set()
        self.proofs: dict[str, bytes] = {}
        self.is_broken = False

    def issue(self, attested: Attested) -> bytes | None:
        if self.is_broken:
            raise ProofRefused("not of this log")
        receipt = attested.leaf.id
        return self.proofs.get(receipt, b"proof\n") if receipt in self.cosigned else None


class Harness:
    """A publisher with its topics and its log."""

    def __init__(self, entries: Sequence[Record], issued: Sequence[Record] = ()) -> None:
        self.queue = ReceiptQueue(BUILDER, ISSUED)
        self.issued = Topic(self.queue.apply_published, issued)
        self.entries = Topic(self.queue.apply_entry, entries)
        self.log = Log()
        self.written: list[ReceiptIssued] = []
        self.clock_s = 0.0
        self._publisher = ReceiptPublisher(
            queue=self.queue,
            published=self.issued,
            entries=self.entries,
            partitions=[Partition(receipts_of(LANE), n) for n in range(2)],
            issuer=lambda: self.log,  # type: ignore[arg-type,return-value]
            write=self.written.append,
            clock=lambda: self.clock_s,
            now=lambda: NOW,
        )

    def turn(self) -> list[str]:
        """Do one turn, and return the ids of the receipts written so far."""
        self.clock_s += publisher.PUBLISH_EVERY_S
        self._publisher.run_once()
        return [each.id for each in self.written]


def id_of(entry: Record) -> str:
    attested = BUILDER.build(entry)
    assert attested
    return attested.leaf.id


def test_a_receipt_is_published_once_it_is_cosigned() -> None:
    first, second = decision(1), decision(2)
    harness = Harness([first, second])
    assert harness.turn() == []
    harness.log.cosigned.add(id_of(second))
    assert harness.turn() == harness.turn() == [id_of(second)]
    (event,) = harness.written
    assert (event.lane, event.account, event.kind) == (LANE, ACCOUNT, "consent")
    assert (event.about, event.receipt) == (new_upload_id(2, bytes(10)), "proof\n")
    assert list(harness.queue.pending) == [id_of(first)]


def test_a_restart_publishes_nothing_again() -> None:
    """Not even while what was published before cannot be read."""
    entry = decision(1)
    before = Harness([entry])
    before.log.cosigned.add(id_of(entry))
    before.turn()
    issued = [record(receipts_of(LANE), ISSUED, each) for each in before.written]
    again = Harness([entry], issued)
    again.log.cosigned.add(id_of(entry))
    again.issued.is_silent = True
    assert again.turn() == []
    again.issued.is_silent = False
    assert again.turn() == again.turn() == []
    assert again.queue.pending == {}


def test_a_log_that_proves_nothing_stops_nothing_else() -> None:
    entry = decision(1)
    harness = Harness([entry])
    harness.log.cosigned.add(id_of(entry))
    harness.log.is_broken = True
    assert harness.turn() == []
    harness.log.is_broken = False
    assert harness.turn() == [id_of(entry)]


def test_a_receipt_that_no_event_holds_holds_up_no_other() -> None:
    entries = [decision(1), decision(2)]
    harness = Harness(entries)
    harness.log.cosigned |= set(map(id_of, entries))
    harness.log.proofs[id_of(entries[0])] = b"?" * (MAX_RECEIPT + 1)
    assert harness.turn() == harness.turn() == [id_of(entries[1])]
    assert harness.queue.pending == {}


def test_receipts_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "MAX_PENDING", 1)
    first, second = decision(1), decision(2)
    harness = Harness([first])
    harness.turn()
    harness.entries.waiting = [second]
    harness.turn()
    assert list(harness.queue.pending) == [id_of(first)]
    harness.log.cosigned |= {id_of(first), id_of(second)}
    assert harness.turn() == [id_of(first)]
    harness.turn()
    assert harness.turn() == [id_of(first), id_of(second)]

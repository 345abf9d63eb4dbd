"""Receipts of a real ledger: written once, cosigned after a look, and verified offline."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.bootstrap.receipts import (
    attested_about,
    cosigner,
    log_reader,
    receipt_issuer,
    receipt_stage,
    receipts_of,
)
from erasestream.pipeline.bootstrap.storage import open_vault, storage_of
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.settings_sections import ReceiptSettings
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import ProofRefused, Refused
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    GrantErased,
    KeyDestroyed,
    KeyState,
    MasterDestroyed,
)
from erasestream.schemas.events.receipts import Leaf, decode_leaf
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id, new_upload_id
from erasestream.sinks.keys.key_vault import key_prefix, mark_erased
from erasestream.sinks.log.key_files import make_keys, public_key
from erasestream.sinks.log.log_reader import new_leaves
from erasestream.sinks.log.receipt import verify_receipt
from erasestream.topics.catalog.roles import ERASER, KEYS, SINK, LaneRole, Role, lane_role
from erasestream.topics.catalog.topic_names import LEDGER, erasures_of, ledger_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import ledger_partitions, write_as

ACCOUNT = AccountId("acct-receipts")
NOW = datetime(2026, 11, 30, 10, tzinfo=UTC)


def new_id() -> str:
    return new_upload_id(0, os.urandom(10))


@pytest.fixture
def with_log(settings: Settings, tmp_path: Path) -> Settings:
    """Return settings of a log of this test's own, in a folder."""
    made = make_keys(tmp_path / "keys", log="log.test", auditor="auditor.test")
    own = {"folder": tmp_path / "log", "log_key": str(tmp_path / "keys" / "log.pub")}
    section = ReceiptSettings.model_validate({**made, **own})
    return settings.model_copy(update={"receipts": section})


class Log:
    """The log of a test's settings."""

    def __init__(self, settings: Settings, kafka: KafkaFixture, lane: Lane) -> None:
        self.settings = settings
        self.section = receipts_of(settings)
        self._kafka = kafka
        self._lane = lane

    def decide(self, *, rounds: int = 1) -> list[GrantId]:
        """Enter decisions of the owner into the ledger, as its writer does; return the grants."""
        grants = []
        for _ in range(rounds):
            for decision in Decision:
                entry = self.entered(self._lane, decision)
                self.write(lane_role(self._lane, LaneRole.ACCOUNT), ledger_of(self._lane), entry)
                if decision is Decision.GRANTED:
                    grants.append(grant_id(self._lane, ACCOUNT, entry.id))
        return grants

    def entered(self, lane: Lane, decision: Decision) -> DecisionEntry:
        """Return a new entry of a decision."""
        return DecisionEntry(
            id=new_id(),
            time=NOW,
            lane=lane,
            account=ACCOUNT,
            decision=decision,
            actor="owner",
            channel=Channel.LIBRARY,
        )

    def write_erased(self, grant: GrantId, state: KeyState = KeyState.UNREACHABLE) -> None:
        """Write, as the eraser does, that all is deleted that was retained under a grant."""
        self.write(ERASER, erasures_of(self._lane), self.erased(grant, state))

    def write(self, role: Role, topic: str, entry: Event) -> None:
        """Write an entry about the account."""
        at, key = place(topic, ACCOUNT, ledger_partitions(self._kafka, self._lane))
        write_as(self._kafka, role, at, key, to_wire(entry, source="/test"))

    def erased(self, grant: GrantId, state: KeyState) -> GrantErased:
        return GrantErased(
            id=new_id(),
            time=NOW,
            lane=self._lane,
            account=ACCOUNT,
            grant=grant,
            decision=new_upload_id(0, bytes(10)),
            recorded=NOW,
            confirmed=NOW,
            objects=0,
            objects_root="ab" * 32,
            keys=("1",),
            state=state,
        )

    def kinds(self) -> list[str]:
        """Return the kinds of the receipts about the account that the log has."""
        with receipt_issuer(self.settings) as issuer:
            found = attested_about(self.settings, self._lane, ACCOUNT)
            return [each.leaf.kind for each in found if issuer.issue(each)]

    def cosign(self) -> int | None:
        with cosigner(self.settings) as auditor:
            done = auditor.cosign()
            return done.size if done else None

    def leaves(self) -> list[Leaf]:
        """Return all leaves."""
        with log_reader(self.settings) as reader:
            newest = reader.newest()
            return list(map(decode_leaf, new_leaves(None, newest))) if newest else []

    def ids(self) -> list[str]:
        """Return the ids of all leaves."""
        return [each.id for each in self.leaves()]

    def attest(self) -> None:
        """Run the stage until the log has every leaf about the account."""
        with receipt_stage(self.settings, threading.Event()) as stage:

            def is_complete() -> bool:
                stage.run_once()
                found = attested_about(self.settings, self._lane, ACCOUNT)
                return {each.leaf.id for each in found} <= set(self.ids())

            eventually("the log has every leaf", is_complete)
            assert stage.is_ready()


@pytest.fixture
def log(with_log: Settings, kafka: KafkaFixture, lane: Lane) -> Log:
    return Log(with_log, kafka, lane)


def test_a_decision_and_an_erasure_have_receipts_once_the_auditor_has_looked(
    log: Log, lane: Lane
) -> None:
    (grant,) = log.decide()
    log.write_erased(grant)
    log.attest()
    assert log.kinds() == []
    with pytest.raises(ProofRefused, match="marker"):
        log.cosign()
    with open_vault(storage_of(log.settings), ERASER) as vault:
        mark_erased(vault, grant)
    size = log.cosign()
    assert size == len(log.ids())
    assert log.cosign() is None
    assert log.kinds() == ["consent", "consent", "erasure"]
    keys = [public_key(key) for key in (log.section.log_key, log.section.auditor_key)]
    with receipt_issuer(log.settings) as issuer:
        for each in attested_about(log.settings, lane, ACCOUNT):
            raw = issuer.issue(each)
            assert raw
            verified = verify_receipt(raw, *keys)
            assert (verified.extra.lane, verified.extra.account) == (lane, ACCOUNT)
            assert verified.log.checkpoint.size == size


def test_a_key_that_is_still_there_is_never_cosigned(log: Log) -> None:
    (grant,) = log.decide()
    with open_vault(storage_of(log.settings), SINK) as vault:
        vault.create(f"{key_prefix(grant)}1", b"wrapped", "")
    with open_vault(storage_of(log.settings), ERASER) as vault:
        mark_erased(vault, grant)
    log.write_erased(grant)
    log.attest()
    with pytest.raises(ProofRefused, match=r"a key of receipt .* still exists"):
        log.cosign()
    assert log.kinds() == []
    with open_vault(storage_of(log.settings), ERASER) as vault:
        vault.delete(f"{key_prefix(grant)}1")
    assert log.cosign()


def test_two_stages_at_once_and_restarts_write_each_receipt_once(log: Log, lane: Lane) -> None:
    stopping = threading.Event()

    def run() -> None:
        """Run a stage until the log has grown, then the next one."""
        while not stopping.is_set():
            with receipt_stage(log.settings, stopping) as stage:
                size = stage.size
                while stage.size == size and not stopping.is_set():
                    stage.run_once(0.05)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for each in threads:
        each.start()
    try:
        grants = log.decide(rounds=3)
        log.write_erased(grants[0])
        log.write_erased(grants[0], KeyState.UNRECOVERABLE)
        # Again, as after a kill between writing and committing.
        log.write_erased(grants[0])
        wanted = {each.leaf.id for each in attested_about(log.settings, lane, ACCOUNT)}
        assert len(wanted) == 8
        eventually("the log has every leaf", lambda: wanted <= set(log.ids()))
    finally:
        stopping.set()
        for each in threads:
            each.join()
    ids = log.ids()
    assert len(ids) == len(set(ids))


def test_entries_are_believed_only_where_their_writer_is_proven(
    log: Log, lane: Lane, kafka: KafkaFixture
) -> None:
    """A lane's service writes erasures and dead keys into its own ledger, and others' decisions."""
    (grant,) = log.decide()
    account = lane_role(lane, LaneRole.ACCOUNT)
    key = KeyDestroyed(
        id=new_id(),
        time=NOW,
        purpose="results.shop",
        epoch=1,
        public_key_sha256="ab" * 32,
        state=KeyState.UNREACHABLE,
    )
    strange = log.entered(Lane("other"), Decision.GRANTED)
    for entry in (log.erased(grant, KeyState.UNREACHABLE), key, strange):
        log.write(account, ledger_of(lane), entry)
    dead = key.model_copy(update={"id": new_id()})
    master = MasterDestroyed(id=new_id(), time=NOW, master="1")
    for entry in (dead, master):
        write_as(kafka, KEYS, Partition(LEDGER, 0), b"", to_wire(entry, source="/test"))
    log.decide()
    log.attest()
    leaves = {each.id: each.kind for each in log.leaves()}
    wanted = attested_about(log.settings, lane, ACCOUNT)
    assert [leaves.get(each.leaf.id) for each in wanted] == ["consent"] * 4
    eventually("all of the ledger", lambda: log.attest() or {dead.id, master.id} <= {*log.ids()})
    kinds = [each.kind for each in log.leaves()]
    assert "erasure" not in kinds
    assert key.id not in log.ids()


def test_a_log_key_that_is_another_is_refused(log: Log) -> None:
    other = log.section.model_copy(update={"signing_key": log.section.auditor_signing_key})
    settings = log.settings.model_copy(update={"receipts": other})
    with (
        pytest.raises(Refused, match="not the key of log"),
        receipt_stage(settings, threading.Event()),
    ):
        pass

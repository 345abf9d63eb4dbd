"""Confirmation of revocations: by the eraser alone, once the markers exist."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from erasestream.pipeline.stages.erasure.stage import EraserStage
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.events.ledger import ErasureEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import (
    OWNER,
    FakeVault,
    eraser,
    ledger_partitions,
    running_eraser,
    writer,
)


@pytest.fixture
def vault() -> FakeVault:
    return FakeVault()


@pytest.fixture
def erasing(kafka: KafkaFixture, lane: Lane, vault: FakeVault) -> Iterator[EraserStage]:
    """Run the eraser on the lane."""
    with running_eraser(kafka, lane, vault) as stage:
        yield stage


def test_a_revocation_is_confirmed_once_its_markers_exist(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, erasing: EraserStage
) -> None:
    """While the vault is unavailable it is recorded and honoured, but not confirmed."""
    assert erasing.count == 0
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    revoked = writes.revoke("acct", **OWNER)
    assert writes.reader.active_grant("acct") is None
    with pytest.raises(Unavailable, match="1 grants are not marked"):
        writes.await_confirmed("acct", revoked, timeout_s=1)
    assert writes.reader.unerased_grants("acct") == [grant]
    vault.is_unavailable = False
    writes.await_confirmed("acct", revoked, timeout_s=120)
    assert vault.marked == {grant}
    assert writes.reader.unerased_grants("acct") == []


def test_forged_erasures_are_ignored(kafka: KafkaFixture, lane: Lane) -> None:
    """The lane's own service can write one to its ledger, but not to `erasures.L`."""
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
    role = lane_role(lane, LaneRole.ACCOUNT)
    forger = AcknowledgedWriter(connection=kafka.connection(role), timeout_s=10)
    partitions = ledger_partitions(kafka, lane)
    forger.write(*place(ledger_of(lane), account, partitions), forged)
    with pytest.raises(Refused):
        forger.write(*place(erasures_of(lane), account, partitions), forged)
    assert writes.reader.unerased_grants("acct") == [grant]
    with pytest.raises(Unavailable, match="1 grants are not marked"):
        writes.await_confirmed("acct", revoked, timeout_s=0)


class DyingVault(FakeVault):
    """A vault in which the process dies right after it created a marker."""

    def mark(self, grant: GrantId) -> None:
        self.marked.add(grant)
        raise KeyboardInterrupt


def test_an_eraser_that_dies_before_the_confirmation_confirms_later(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Its successor finds the decision and the marker again."""
    writes = writer(kafka, lane)
    grant = writes.grant("acct", **OWNER).grant
    writes.revoke("acct", **OWNER)
    dying, vault = DyingVault(), FakeVault()
    with eraser(kafka, lane, dying, threading.Event()) as first:

        def has_died() -> bool:
            try:
                first.run_once()
            except KeyboardInterrupt:
                return True
            return False

        eventually("the eraser dies", has_died, poll_s=0)
    assert dying.marked == {grant}
    assert writes.reader.unerased_grants("acct") == [grant]
    vault.is_unavailable = False
    with eraser(kafka, lane, vault, threading.Event()) as second:

        def has_confirmed() -> bool:
            second.run_once()
            return not writes.reader.unerased_grants("acct")

        eventually("the revocation is confirmed", has_confirmed, poll_s=0)
    assert vault.marked == {grant}

"""The rules of consent, each with a violation, on a real broker."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.provisioning_plan import plan
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import OPERATOR
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent.reader import ConsentReader
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import (
    OWNER,
    writer,
)


def seconds_ago(seconds: float) -> WallClock:
    """Return a clock that stopped this long ago."""
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    return lambda: at


def test_a_revocation_ends_the_grants_of_two_concurrent_writers(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Both look up before either writes; the last grant is active, and both are remembered."""
    both_have_looked_up = threading.Barrier(2, timeout=120)

    def now() -> datetime:
        both_have_looked_up.wait()
        return datetime.now(UTC)

    writers = [writer(kafka, lane, now) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda each: each.grant("acct", **OWNER), writers))
    grants = {each.grant for each in made}
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    active = reader.active_grant("acct")
    assert len(grants) == 2
    assert active
    assert active.grant in grants
    writer(kafka, lane).revoke("acct", **OWNER)
    assert reader.active_grant("acct") is None
    assert set(reader.unerased_grants("acct")) == grants


def test_a_delayed_grant_does_not_undo_a_revocation(kafka: KafkaFixture, lane: Lane) -> None:
    """Created before the revocation and appended after it: void, also for the router."""
    other = writer(kafka, lane)
    other.grant("acct", **OWNER)
    other.revoke("acct", **OWNER)
    with pytest.raises(Unavailable, match="too late"):
        writer(kafka, lane, seconds_ago(6)).grant("acct", **OWNER)
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    assert reader.active_grant("acct") is None
    made = [entry.decision for entry in reader.history("acct")]
    assert made == [Decision.GRANTED, Decision.REVOKED, Decision.GRANTED]


def test_consent_topics_never_grow(kafka: KafkaFixture, lane: Lane) -> None:
    """With another partition count every account would have another partition."""
    declared = kafka.catalog()
    more = Catalog.build(declared.lanes, durability=declared.durability, consent_partitions=5)
    with pytest.raises(Refused, match=r"consent\.\S+ has 4 partitions, and that never changes"):
        plan(kafka.admin, more)
    more = Catalog.build(declared.lanes, durability=declared.durability, history_partitions=5)
    with pytest.raises(Refused, match=r"ledger\S* has 4 partitions, and that never changes"):
        plan(kafka.admin, more)
    assert kafka.admin.partition_counts()[consent_of(lane)] == 4


def test_the_images_for_the_sink_can_grow(kafka: KafkaFixture) -> None:
    """Their partitions are computed from nothing that is asked for later."""
    declared = kafka.catalog()
    more = Catalog.build(declared.lanes, durability=declared.durability, retained_partitions=5)
    with kafka.admin as admin:
        changes = [str(change) for change in plan(admin, more).changes]
    assert "grow topic retained from 4 to 5" in changes


def test_a_late_revocation_counts(kafka: KafkaFixture, lane: Lane) -> None:
    """Only grants are void."""
    writer(kafka, lane).grant("acct", **OWNER)
    late = writer(kafka, lane, seconds_ago(timedelta(hours=1).total_seconds()))
    late.revoke("acct", **OWNER)
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    assert reader.active_grant("acct") is None

"""A renewed certificate is used for new connections, and no record is lost.

The first certificate expires after seconds.  An open connection outlives it, so the broker is
restarted in between: then only clients with the new certificate connect.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.schemas.errors import Code, ErasestreamError
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import ephemeral_of
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.tls import Identity
from tests.flow.pictures import photo
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture, opened_kafka
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness

OWNER = {"actor": "owner", "channel": Channel.LIBRARY}
VALID = timedelta(seconds=20)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """Run a broker for this module, which restarts it."""
    with opened_kafka(tmp_path_factory.mktemp("renewal"), spare_lanes=2) as kafka:
        yield kafka


class ManualClock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def issue(
    authority: CertificateAuthority, role: str, folder: Path, *, valid: timedelta | None = None
) -> datetime:
    """Issue a certificate, by default for days; return when it expires."""
    if valid is not None:
        begun = datetime.now(UTC) - timedelta(days=authority.days) + valid
        authority = replace(authority, now=lambda: begun)
    authority.issue_role(role, folder)
    return datetime.now(UTC) + (valid or timedelta(days=1))


def test_a_change_is_noticed_once_and_only_when_complete(tmp_path: Path) -> None:
    """Key and certificate are written one after the other; a single one is no renewal."""
    authority = CertificateAuthority.create(tmp_path / "authority", now=lambda: datetime.now(UTC))
    issue(authority, ADMIN, tmp_path / "now")
    issue(authority, ADMIN, tmp_path / "next")
    clock = ManualClock()
    identity = Identity.load(tmp_path / "now", ADMIN)
    watcher = CertificateWatcher(identity, look_every_s=1, clock=clock)

    def is_due() -> bool:
        clock.now += 1
        return watcher.is_due()

    assert not is_due()
    (tmp_path / "next" / f"{ADMIN}.crt").replace(tmp_path / "now" / f"{ADMIN}.crt")
    assert not is_due()
    (tmp_path / "next" / f"{ADMIN}.key").replace(tmp_path / "now" / f"{ADMIN}.key")
    assert not watcher.is_due(), "it looks at most every second"
    assert is_due()
    assert not is_due()


@pytest.fixture
def short_lived(kafka: KafkaFixture, lane: Lane, tmp_path: Path) -> tuple[Cluster, datetime]:
    """Issue certificates for the lane's services that expire soon; also return when."""
    ends = [
        issue(kafka.authority, lane_role(lane, role), tmp_path, valid=VALID) for role in LaneRole
    ]
    return replace(kafka.cluster, identities=tmp_path), max(ends)


@pytest.mark.long
def test_clients_outlive_their_certificates(
    kafka: KafkaFixture, lane: Lane, short_lived: tuple[Cluster, datetime], tmp_path: Path
) -> None:
    """Producer, subscription and consent writer continue with the renewed ones."""
    cluster, ends = short_lived
    bench = KafkaRouterHarness(kafka, lane)
    account = Connection(cluster=cluster, role=lane_role(lane, LaneRole.ACCOUNT))
    writer = ConsentWriter(connection=account, lane=lane)
    with (
        UploadProducer(cluster, lane, sealed=False) as producer,
        ResultSubscription(cluster, lane, group="renewal") as subscription,
    ):
        before = producer.send(photo(), account="acct").result(30)
        writer.grant("acct", **OWNER)
        for role in LaneRole:
            issue(kafka.authority, lane_role(lane, role), tmp_path)
        eventually(
            "the first ones have expired",
            lambda: not subscription.poll(0.2) and datetime.now(UTC) > ends + timedelta(seconds=1),
        )
        kafka.broker.stop()
        kafka.broker.start()
        after = [producer.send(photo(), account="acct") for _ in range(3)]
        received = {future.result(60).upload_id for future in after}
        assert len(received | {before.upload_id}) == 4
        assert writer.revoke("acct", **OWNER).written
        upload = bench.upload()
        bench.write_result(*upload, topic=ephemeral_of(lane))
        delivery = eventually("a result", lambda: subscription.poll(0.5))
        assert delivery.event.id == upload[0]
        delivery.ack()


@pytest.mark.long
def test_expired_certificates_are_refused(
    kafka: KafkaFixture, lane: Lane, short_lived: tuple[Cluster, datetime]
) -> None:
    """The control of the test above."""
    cluster, ends = short_lived
    eventually("they have expired", lambda: datetime.now(UTC) > ends + timedelta(seconds=1))
    with pytest.raises(ErasestreamError) as refused:
        UploadProducer(cluster, lane, sealed=False)
    assert refused.value.code is Code.CERTIFICATE_REFUSED

"""Constructors of producers: refused or unavailable with a message that names the cause."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.schemas.errors import Code, ErasestreamError, Refused, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import MAX_UPLOAD_RECORD_BYTES, uploads_of
from erasestream.topics.client.async_result_subscription import AsyncResultSubscription
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import SendingLimits, UploadProducer
from erasestream.topics.kafka.connection import Cluster
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.uploads import QUICK


def _impostor(folder: Path, kafka: KafkaFixture, lane: Lane, *, certificate_of: str) -> Cluster:
    """Return a cluster whose producer presents the certificate of another role."""
    folder.mkdir()
    shutil.copy(kafka.identities / "ca.crt", folder)
    for suffix in ("crt", "key"):
        source = kafka.identities / f"{certificate_of}.{suffix}"
        shutil.copy(source, folder / f"{lane}.producer.{suffix}")
    return Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=folder)


@pytest.mark.parametrize("role", ["consumer", "account"])
def test_a_role_without_the_right_to_write_is_refused(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path, role: str
) -> None:
    """By the constructor, which names the topic."""
    cluster = _impostor(tmp_path / "wrong", kafka, lane, certificate_of=f"{lane}.{role}")
    with pytest.raises(Refused) as caught:
        UploadProducer(cluster, lane, sealed=False)
    assert caught.value.code is Code.NOT_AUTHORIZED
    assert uploads_of(lane) in caught.value.sentence


def test_another_lanes_certificate_is_refused(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    other = kafka.open_lane()
    cluster = _impostor(tmp_path / "wrong", kafka, lane, certificate_of=f"{other}.producer")
    with pytest.raises(Refused) as caught:
        UploadProducer(cluster, lane, sealed=False)
    assert caught.value.code is Code.NOT_AUTHORIZED


def test_a_lane_without_topics_is_refused(kafka: KafkaFixture, lane: Lane, tmp_path: Path) -> None:
    """With the advice to provision it."""
    folder = tmp_path / "identities"
    _impostor(folder, kafka, Lane("nowhere"), certificate_of=f"{lane}.producer")
    cluster = Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=folder)
    with pytest.raises(Refused, match="provision"):
        UploadProducer(cluster, Lane("nowhere"), sealed=False)


def test_brokers_of_another_authority_are_refused(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    """Nothing is sent."""
    stranger = CertificateAuthority.create(tmp_path / "authority", now=lambda: datetime.now(UTC))
    stranger.issue_role(f"{lane}.producer", tmp_path)
    cluster = Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=tmp_path)

    def refusal() -> Code:
        with pytest.raises(ErasestreamError) as caught:
            UploadProducer(cluster, lane, limits=QUICK, sealed=False)
        return caught.value.code

    # On a busy machine the deadline can pass before the client has reported its handshake.
    eventually("it is refused", lambda: refusal() is Code.CERTIFICATE_REFUSED)


def test_a_missing_certificate_is_named(kafka: KafkaFixture, tmp_path: Path) -> None:
    cluster = Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=tmp_path)
    with pytest.raises(Refused, match=r"ca\.crt") as caught:
        UploadProducer(cluster, Lane("shop"), sealed=False)
    assert caught.value.code is Code.MISSING_CERTIFICATE


def test_unavailable_brokers_fail_the_constructor(kafka: KafkaFixture, lane: Lane) -> None:
    """At its deadline."""
    (port,) = free_ports(1)
    cluster = Cluster(bootstrap_servers=(f"127.0.0.1:{port}",), identities=kafka.identities)
    with pytest.raises(Unavailable) as caught:
        UploadProducer(cluster, lane, limits=SendingLimits(readiness_s=1.0), sealed=False)
    assert caught.value.code is Code.BROKER_UNAVAILABLE


def test_a_queue_too_small_for_one_upload_is_refused() -> None:
    with pytest.raises(Refused, match=str(MAX_UPLOAD_RECORD_BYTES)):
        SendingLimits(max_queued_bytes=MAX_UPLOAD_RECORD_BYTES - 1)


@pytest.mark.parametrize("name", ["Shop!", "", "router/x", "shop\n"])
async def test_a_bad_lane_name_is_named(tmp_path: Path, name: str) -> None:
    """By each client, before it looks for a certificate."""
    cluster, lane = Cluster(bootstrap_servers="127.0.0.1:9", identities=tmp_path), Lane(name)
    for refused in (
        lambda: UploadProducer(cluster, lane, sealed=False),
        lambda: ResultSubscription(cluster, lane, group="g"),
    ):
        with pytest.raises(Refused, match="a lane's name") as caught:
            refused()
        assert caught.value.code is Code.MISCONFIGURED
    for client in (
        AsyncUploadProducer(cluster, lane, sealed=False),
        AsyncResultSubscription(cluster, lane, group="g"),
    ):
        with pytest.raises(Refused, match="a lane's name"):
            await client.open()


def test_a_producer_without_a_key_service_opens_only_if_nothing_is_to_be_sealed(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """No image is sent in clear by mistake."""
    with pytest.raises(Refused, match="key_endpoints"):
        UploadProducer(kafka.cluster, lane)
    UploadProducer(kafka.cluster, lane, sealed=False).close()

"""The whole path through a listener as managed services have it: SASL inside TLS 1.2.

One broker with one lane, for smaller images than others accept.  Every role has a SCRAM user; that
of the lane's producer has a name of the service's making.
"""

import base64
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from erasestream.pipeline.devstack.child_process import Attachment
from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.pipeline.devstack.kafka.managed_listener import ManagedListener
from erasestream.pipeline.devstack.stack_processes import StackProcesses
from erasestream.pipeline.settings import SETTINGS_VARIABLE, Settings, load
from erasestream.schemas.errors import Code, ErasestreamError, InvalidImage
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.roles import ADMIN, INFERENCE, ROUTER, LaneRole, lane_role
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import SendingLimits, UploadProducer
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.client_quotas import ClientQuotas
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.sasl import Authentication
from erasestream.topics.kafka.tls import MinimumTls
from tests.flow.pictures import loud_noise, photo
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture, opened_kafka
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

SHOP = Lane("shop")
PRODUCER = lane_role(SHOP, LaneRole.PRODUCER)
ITERATIONS = 4096
WAIT_S = 60.0
SETTINGS = """
[kafka]
bootstrap_servers = ["{server}"]
identities = "{secrets}"
replication = 1
min_insync = 1
authentication = "SCRAM-SHA-512"
minimum_tls = "1.2"
max_upload_bytes = 200_000
max_cutout_bytes = 300_000

[inference]
models = "{models}"
model = "tiny"
children = 1

[kafka.principals]
"shop.producer" = ["svc-4711"]

[lanes.shop]
partitions = 1
sealing = "accepted"
"""
USERS = {PRODUCER: "svc-4711"}
"""Users that are not called as their role."""


def password_of(role: str) -> str:
    return f"{role}'s password, as long as one should be"


def user_of(role: str) -> str:
    return USERS.get(role, role)


def token_of(role: str) -> str:
    """Return an unsigned JSON Web Token of this role's user, which the broker accepts."""
    parts = {"alg": "none"}, {"sub": user_of(role), "iat": 0, "exp": 4e9}
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return b".".join((*encoded, b"")).decode()


@dataclass
class ManagedKafka:
    """A broker that is managed by others: its clients have a password, and no certificate."""

    kafka: KafkaFixture
    folder: Path

    @property
    def settings(self) -> Settings:
        """The settings of every stage."""
        return load(self.folder / "erasestream.toml")

    @property
    def secrets(self) -> Path:
        """The identities folder, with passwords."""
        return self.folder / "secrets"

    def cluster(self, mechanism: Authentication = Authentication.SCRAM_SHA_512) -> Cluster:
        """Return the address for clients of this mechanism."""
        return replace(self.settings.cluster, authentication=mechanism)

    def set_passwords(self, passwords: Mapping[str, str]) -> None:
        """Set the passwords of these roles' users on the broker."""
        with self.kafka.admin_client() as client:
            for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
                credential = ScramCredentialInfo(mechanism, ITERATIONS)
                changes = [
                    UserScramCredentialUpsertion(user_of(role), credential, password.encode())
                    for role, password in passwords.items()
                ]
                for changed in client.alter_user_scram_credentials(changes).values():
                    changed.result(WAIT_S)


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagedKafka]:
    """Run a broker with users, and provision it as one of them."""
    folder = tmp_path_factory.mktemp("managed")
    (port,) = free_ports(1)
    listener = ManagedListener(port=port, plain_users={user_of(PRODUCER): password_of(PRODUCER)})
    build_tiny_model(folder / "models")
    (folder / "secrets").mkdir()
    (folder / "erasestream.toml").write_text(
        SETTINGS.format(
            server=f"127.0.0.1:{port}", secrets=folder / "secrets", models=folder / "models"
        )
    )
    with opened_kafka(folder, managed_listener=listener) as kafka:
        opened = ManagedKafka(kafka, folder)
        shutil.copy(kafka.identities / "ca.crt", opened.secrets)
        catalog = opened.settings.catalog()
        for role in catalog.roles:
            (opened.secrets / f"{role}.password").write_text(password_of(role) + "\n")
            (opened.secrets / f"{role}.user").write_text(user_of(role))
            (opened.secrets / f"{role}.token").write_text(token_of(role))
        opened.set_passwords({role: password_of(role) for role in catalog.roles})
        with Admin(Connection(cluster=opened.cluster(), role=ADMIN)) as admin:
            provision(admin, catalog, show=lambda _plan: None)
        yield opened


@pytest.fixture(scope="module")
def processes(managed: ManagedKafka) -> Iterator[StackProcesses]:
    """Run a worker and a router with the settings alone."""
    started = StackProcesses(
        managed.folder, logs=managed.folder / "logs", attachment=Attachment.ATTACHED
    )
    environment = {**os.environ, SETTINGS_VARIABLE: str(managed.folder / "erasestream.toml")}
    try:
        for stage in ("infer", "route"):
            started.launch(stage, ["-m", "erasestream.pipeline.cli.main", stage], environment)
        yield started
    finally:
        for child in started.all().values():
            child.stop(grace_s=20)


def roundtrip(managed: ManagedKafka, mechanism: Authentication) -> None:
    """Send a photo and receive its cut-out."""
    with UploadProducer(managed.cluster(mechanism), SHOP, sealed=False) as producer:
        receipt = producer.send(photo(), account="acct-1").result(WAIT_S)
    # Any mechanism but PLAIN, which only the producer has a user of.
    with ResultSubscription(managed.cluster(), SHOP, group="tests") as subscription:

        def next_result() -> bool:
            delivery = subscription.poll(1.0)
            if delivery is None:
                return False
            delivery.ack()
            if delivery.event.id != receipt.upload_id:  # of another test
                return False
            assert isinstance(delivery.event, Cutout)
            return True

        eventually("the cut-out", next_result)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("mechanism", [m for m in Authentication if m != "certificate"])
def test_a_photo_becomes_a_cutout_through_sasl_and_tls_1_2(
    managed: ManagedKafka, mechanism: Authentication
) -> None:
    """Provisioning, producer, worker, router and subscription need no certificate of their own."""
    roundtrip(managed, mechanism)


@pytest.mark.usefixtures("processes")
def test_smaller_sizes_hold_from_the_producer_to_the_cut_out(managed: ManagedKafka) -> None:
    """The producer asks for the limit, and no batch of good images exceeds it."""
    images = [loud_noise(800, 700) for _ in range(4)]
    assert all(100_000 < len(each) < 200_000 for each in images)
    with UploadProducer(managed.cluster(), SHOP, sealed=False) as producer:
        with pytest.raises(InvalidImage, match=r"at most 0\.2 MB") as refused:
            producer.send(images[0] + bytes(100_000), account="acct-3")
        assert refused.value.code is Code.TOO_LARGE
        sent = [
            producer.send(image, account="acct-3", options={"format": form})
            for image, form in zip(images, ("png", "png", "png", "auto"), strict=True)
        ]
        ids = [each.result(WAIT_S).upload_id for each in sent]
    found: dict[UploadId, Cutout | Failure] = {}
    with ResultSubscription(managed.cluster(), SHOP, group="sizes") as subscription:

        def all_found() -> bool:
            if delivery := subscription.poll(1.0):
                found[delivery.event.id] = delivery.event
            return found.keys() >= set(ids)

        eventually("the results", all_found)
    *refusals, fitted = (found[each] for each in ids)
    for refusal in refusals:
        assert isinstance(refusal, Failure)
        assert refusal.code == Code.RESULT_TOO_LARGE
        assert "at most 0.3 MB" in refusal.sentence
    assert isinstance(fitted, Cutout)
    assert len(fitted.data) <= 300_000
    assert fitted.adjusted is not None


def test_quotas_are_set_through_sasl_and_for_the_principal(managed: ManagedKafka) -> None:
    connection = Connection(cluster=managed.cluster(), role=ADMIN)
    declared = managed.settings.catalog().quotas[PRODUCER]
    assert ClientQuotas(connection).of_users()[user_of(PRODUCER)] == declared


def test_renewed_passwords_are_used_by_clients_that_run(
    managed: ManagedKafka, processes: StackProcesses
) -> None:
    """The old passwords are gone from the broker, which then closes every connection."""
    roundtrip(managed, Authentication.SCRAM_SHA_512)
    with UploadProducer(managed.cluster(), SHOP, sealed=False) as producer:
        renewed = (INFERENCE, ROUTER, PRODUCER, lane_role(SHOP, LaneRole.CONSUMER))
        managed.set_passwords({role: password_of(f"new {role}") for role in renewed})
        for role in renewed:
            (managed.secrets / f"{role}.password").write_text(password_of(f"new {role}"))
        # Opened with the old password, and replaced as the file has changed.
        eventually(
            "the worker has noticed",
            lambda: "certificate_renewed" in processes.log_of("infer").read_text(),
        )
        managed.kafka.broker.stop()
        managed.kafka.broker.start()
        eventually("an upload", lambda: producer.send(photo(), account="acct-2").result(WAIT_S))
    roundtrip(managed, Authentication.SCRAM_SHA_512)


def error_of(cluster: Cluster, code: Code) -> ErasestreamError:
    """Open a producer, which is refused; on a busy machine the reason can come too late once."""

    def refusal() -> ErasestreamError | None:
        with pytest.raises(ErasestreamError) as raised:
            UploadProducer(cluster, SHOP, limits=SendingLimits(readiness_s=2), sealed=False).close()
        return raised.value if raised.value.code is code else None

    return eventually(f"the producer is refused: {code}", refusal)


@pytest.mark.parametrize("mechanism", [m for m in Authentication if m != "certificate"])
def test_a_wrong_secret_is_refused_by_name_and_not_shown(
    managed: ManagedKafka, mechanism: Authentication, tmp_path: Path
) -> None:
    shutil.copy(managed.secrets / "ca.crt", tmp_path)
    for kind in ("password", "token"):
        (tmp_path / f"{PRODUCER}.{kind}").write_text("wrong-secret")
    cluster = replace(managed.cluster(mechanism), identities=tmp_path)
    error = error_of(cluster, Code.NOT_AUTHENTICATED)
    assert "wrong-secret" not in str(error)


def test_tls_1_2_is_refused_unless_the_settings_allow_it(managed: ManagedKafka) -> None:
    cluster = replace(managed.cluster(), minimum_tls=MinimumTls.TLS_1_3)
    error_of(cluster, Code.CERTIFICATE_REFUSED)

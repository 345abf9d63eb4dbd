"""The real broker: rights, readiness, and restarts."""

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.child_process import ProcessId
from erasestream.pipeline.devstack.kafka.broker import Broker, free_ports
from erasestream.pipeline.devstack.kafka.broker_config import single
from erasestream.pipeline.devstack.kafka.readiness import brokers_in_service
from erasestream.schemas.errors import Code, Refused, Unavailable
from erasestream.topics.catalog.roles import Role
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.tls import Identity
from tests.flow.waiting import eventually
from tests.raw_kafka import GZIP, NO_ERROR, BatchHeader, RawKafka, batch, varint

NewBroker = Callable[[Path, Path], Broker]
TIMEOUT_S = 60.0


def settings(broker: Broker, identities: Path, role: str) -> dict[str, str | int | float | bool]:
    """Return a client's settings, as the project makes them."""
    found = Identity.load(identities, Role(role)).client_settings()
    return {**found, "bootstrap.servers": broker.bootstrap}


def create_topic(broker: Broker, identities: Path, name: str, **config: str) -> None:
    """Create a topic for the largest records; more settings with `_` for `.`."""
    config = {setting.replace("_", "."): value for setting, value in config.items()}
    config["max.message.bytes"] = str(MAX_RECORD_BYTES)
    topic = NewTopic(name, num_partitions=1, replication_factor=1, config=config)
    admin = AdminClient(settings(broker, identities, "admin"))
    admin.create_topics([topic])[name].result(TIMEOUT_S)


def produce(
    broker: Broker,
    identities: Path,
    topic: str,
    value: bytes,
    *,
    role: str = "admin",
    timeout_s: float = TIMEOUT_S,
) -> KafkaError | None:
    """Send one record; return None once it is acknowledged, or the error."""
    errors: list[KafkaError | None] = []
    producer = Producer(
        {
            **settings(broker, identities, role),
            "message.max.bytes": MAX_RECORD_BYTES,
            "message.timeout.ms": int(timeout_s * 1000),
        }
    )
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    producer.flush(TIMEOUT_S)
    assert len(errors) == 1
    return errors[0]


def first_value(broker: Broker, identities: Path, topic: str) -> bytes | None:
    """Return the first record of a topic."""
    consumer = Consumer(
        {
            **settings(broker, identities, "admin"),
            "group.id": "test",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": MAX_RECORD_BYTES,
            "receive.message.max.bytes": MAX_RECORD_BYTES + 1_000_000,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(TIMEOUT_S)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def test_a_denial_is_logged_with_role_and_topic(broker: Broker, identities: Path) -> None:
    create_topic(broker, identities, "forbidden")
    error = produce(broker, identities, "forbidden", b"x", role="shop.producer")
    assert error is not None
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    eventually(
        "the denial in the log",
        lambda: any(
            "User:shop.producer" in line and "Denied" in line and "forbidden" in line
            for line in broker.log.read_text().splitlines()
        ),
    )


def test_what_a_broker_writes_is_its_owners_only(broker: Broker, identities: Path) -> None:
    """Segments hold pixels in clear."""
    create_topic(broker, identities, "private")
    assert produce(broker, identities, "private", b"pixels") is None
    folder = broker.data.parent
    found = [broker.data, *broker.data.rglob("*"), broker.log, broker.log.with_suffix(".out")]
    assert any(path.suffix == ".log" and "private" in str(path) for path in found)
    modes = {path: mode_for_others(path) for path in (folder, broker.log.parent, *found)}
    assert not {path for path, mode in modes.items() if mode}


def mode_for_others(path: Path) -> int:
    """Return what others may do with a file; nothing with one that the broker has deleted."""
    try:
        return path.stat().st_mode & 0o077
    except FileNotFoundError:
        return 0


def test_topics_are_not_auto_created(broker: Broker, identities: Path) -> None:
    """Not even for the administrator."""
    # Kept until the response: a request ends with its client.
    client = AdminClient(settings(broker, identities, "shop.producer"))
    with pytest.raises(KafkaException):
        client.create_topics([NewTopic("mine", 1, 1)])["mine"].result(TIMEOUT_S)
    error = produce(broker, identities, "nowhere", b"x", timeout_s=2)
    assert error is not None
    assert "nowhere" not in AdminClient(settings(broker, identities, "admin")).list_topics().topics


def test_the_largest_record_is_stored_and_read(broker: Broker, identities: Path) -> None:
    create_topic(broker, identities, "large")
    value = os.urandom(64_000_000)
    assert produce(broker, identities, "large", value) is None
    assert first_value(broker, identities, "large") == value


def test_a_record_that_claims_two_gigabytes_costs_its_sender_only(
    broker: Broker, identities: Path
) -> None:
    """Kafka allocates what the record claims: the request fails, and the broker goes on."""
    # So that the broker has to decompress all of it.
    create_topic(broker, identities, "claims", compression_type="uncompressed")
    before = broker.process_id
    cluster = Cluster(bootstrap_servers=(broker.bootstrap,), identities=identities)
    claim = batch(gzip.compress(varint(2_000_000_000)), BatchHeader(count=1, attributes=GZIP))
    with RawKafka(cluster, Role("admin")) as attacker:
        assert attacker.produce("claims", 0, claim).error != NO_ERROR
    assert broker.process_id == before
    assert produce(broker, identities, "claims", b"of another client") is None
    assert first_value(broker, identities, "claims") == b"of another client"


def test_two_brokers_are_independent_and_a_killed_one_keeps_its_data(
    broker: Broker, identities: Path, new_broker: NewBroker, tmp_path: Path
) -> None:
    other = new_broker(tmp_path, identities)
    try:
        other.start()
        create_topic(other, identities, "own")
        assert produce(other, identities, "own", b"kept") is None
        assert "own" not in AdminClient(settings(broker, identities, "admin")).list_topics().topics
        other.kill()
        assert other.process_id is None
        other.start()
        assert first_value(other, identities, "own") == b"kept"
        other.stop()
        assert other.process_id is None
        assert "shut down completed" in other.log.read_text()
    finally:
        other.stop()


def test_a_second_start_is_refused_and_the_broker_keeps_running(broker: Broker) -> None:
    before = broker.process_id
    with pytest.raises(Refused, match="runs already"):
        broker.start()
    assert broker.process_id == before


def test_another_object_finds_the_broker_by_its_folder(
    broker: Broker, identities: Path, libs: Path
) -> None:
    same = Broker(broker.data.parent, identities, libs, config=broker.config)
    assert same.process_id == broker.process_id


def test_a_paused_broker_is_not_ready_until_it_is_resumed(broker: Broker, identities: Path) -> None:
    broker.pause()
    try:
        with pytest.raises(Unavailable, match="is not ready"):
            broker.wait_until_ready(timeout_s=0.5)
    finally:
        broker.resume()
    broker.wait_until_ready()
    # Its own session may have expired meanwhile: then it is fenced for a moment once it runs.
    eventually(
        "it is in service",
        lambda: brokers_in_service(broker.bootstrap, identities, "admin") == {1},
    )


def test_a_broker_without_its_certificate_is_refused_naming_the_file(
    new_broker: NewBroker, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=r"broker\.pem") as refused:
        new_broker(tmp_path / "k", tmp_path).start()
    assert refused.value.code is Code.MISSING_CERTIFICATE


def test_a_broker_whose_port_is_taken_is_refused_naming_the_log(
    broker: Broker, identities: Path, libs: Path, tmp_path: Path
) -> None:
    """The error contains no secret."""
    config = single(
        port=free_ports(1)[0],
        controller_port=broker.config.controller.port,
        random=os.urandom(16),
    )
    late = Broker(tmp_path, identities, libs, config=config)
    try:
        with pytest.raises(Refused, match=r"broker\.log") as refused:
            late.start()
    finally:
        late.stop()
    assert "PRIVATE" not in str(refused.value)


def test_a_certificate_for_another_host_is_refused_with_its_reason(
    authority: CertificateAuthority, new_broker: NewBroker, tmp_path: Path
) -> None:
    """When the broker starts; the error contains no secret."""
    authority.issue_broker("broker", tmp_path / "id", hosts=["elsewhere.example"])
    wrong = new_broker(tmp_path / "k", tmp_path / "id")
    try:
        with pytest.raises(Refused, match="mismatch") as refused:
            wrong.start()
        assert wrong.process_id is None
    finally:
        wrong.stop()
    assert refused.value.code is Code.CERTIFICATE_REFUSED
    assert "PRIVATE" not in str(refused.value)


def test_an_attached_broker_ends_with_its_parent(
    identities: Path, libs: Path, tmp_path: Path
) -> None:
    port, controller_port = free_ports(2)
    program = f"""
import os, pathlib, signal
from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.pipeline.devstack.kafka.broker_config import single
config = single(port={port}, controller_port={controller_port}, random=os.urandom(16))
paths = map(pathlib.Path, {[str(tmp_path), str(identities), str(libs)]})
broker = Broker(*paths, config=config)
broker.launch()
print(broker.process_id.pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert ProcessId.of(pid) is not None
        parent.send_signal(signal.SIGKILL)
    eventually("it ends with its parent", lambda: ProcessId.of(pid) is None)

"""The key service over mutual TLS: who gets which key, when, and what happens in outages."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.pipeline.stages.keys import connections
from erasestream.pipeline.stages.keys.connections import MAX_CONNECTIONS
from erasestream.schemas.errors import NotAuthorized, Refused, Unavailable
from erasestream.sinks.keys.epoch_vault import KeyName
from erasestream.topics.catalog.purposes import purposes
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient
from tests.pipeline.stages.keys.key_harness import (
    HOST,
    LANES,
    ROLES,
    TIMES,
    KeyHarness,
    SettableClock,
)

WAIT_S = 20.0
PRODUCER = "shop.producer"


def test_every_role_against_every_purpose(harness: KeyHarness) -> None:
    """Public keys for those that seal, a private key for the one that opens, else refused."""
    replica = harness.start()
    replica.do_round()
    epoch = TIMES.number(harness.clock())
    for role in ROLES:
        client = harness.client(role)
        for purpose in purposes(LANES).values():
            may_seal, may_open = role in purpose.sealers, role == purpose.opener
            pair = replica.vault.find(KeyName(purpose.name, epoch), harness.clock())
            if may_seal:
                sealing = client.sealing_key(purpose.name, timeout_s=WAIT_S)
                assert (sealing.epoch, sealing.public) == (epoch, pair.public)
                assert client.public_key(purpose.name, epoch, timeout_s=WAIT_S) == pair.public
            else:
                with pytest.raises(NotAuthorized):
                    client.sealing_key(purpose.name, timeout_s=WAIT_S)
                with pytest.raises(NotAuthorized):
                    client.public_key(purpose.name, epoch, timeout_s=WAIT_S)
            if may_open:
                assert client.opening_key(purpose.name, epoch, timeout_s=WAIT_S) == pair.private
            else:
                with pytest.raises(NotAuthorized):
                    client.opening_key(purpose.name, epoch, timeout_s=WAIT_S)


def test_another_replica_answers_for_one_that_is_gone(harness: KeyHarness) -> None:
    gone, left = harness.start(), harness.start()
    gone.do_round()
    left.do_round()
    client = harness.client("sink", gone, left)
    gone.stage.close()
    harness.replicas.remove(gone)
    epoch = TIMES.number(harness.clock())
    key = client.opening_key("sink", epoch, timeout_s=WAIT_S)
    assert key == left.vault.find(KeyName("sink", epoch), harness.clock()).private


def test_without_the_vault_known_keys_are_given_out(
    harness: KeyHarness, bucket_settings: BucketSettings, tmp_path: Path
) -> None:
    """A key that a replica has not in memory is unavailable, never unknown; the round goes on."""
    settings = bucket_settings.model_copy(
        update={"data": tmp_path / "data", "port_file": tmp_path / "port"}
    )
    harness.bucket = BucketProcess.start(settings, tmp_path)
    replica = harness.start()
    replica.do_round()
    assert replica.stage.is_ready()
    fresh = harness.start()
    epoch = TIMES.number(harness.clock())
    harness.bucket.stop()
    known = harness.client("sink", replica).opening_key("sink", epoch, timeout_s=WAIT_S)
    assert isinstance(known, bytes)
    with pytest.raises(Unavailable):
        harness.client("sink", fresh).opening_key("sink", epoch, timeout_s=0)
    fresh.do_round()
    assert not fresh.stage.is_ready()


def test_clocks_two_minutes_apart(harness: KeyHarness) -> None:
    """Producers and replicas on both sides of an epoch change agree on keys that open."""
    change = TIMES.begins(TIMES.number(harness.clock()) + 1)
    late = harness.start(clock=SettableClock(change - timedelta(minutes=1)))
    early = harness.start(clock=SettableClock(change + timedelta(minutes=1)))
    for replica in (early, late):
        replica.do_round()
    for replica in (early, late):
        for clock in (early.clock, late.clock):
            producer = harness.client(PRODUCER, replica, clock=clock)
            sealing = producer.sealing_key("inference.shop", timeout_s=WAIT_S)
            for other in (early, late):
                worker = harness.client("inference", other, clock=clock)
                private = worker.opening_key("inference.shop", sealing.epoch, timeout_s=WAIT_S)
                pair = other.vault.find(KeyName("inference.shop", sealing.epoch), clock())
                assert (sealing.public, private) == (pair.public, pair.private)


def test_epoch_change_under_load(harness: KeyHarness) -> None:
    """200 new clients at once, of two replicas that never heard of this epoch: one key for all."""
    for _ in range(2):
        harness.start()
    harness.clock.advance(hours=1)

    def ask(number: int) -> bytes:
        client = harness.client(PRODUCER, *harness.replicas[:: 1 if number % 2 else -1])
        return client.sealing_key("inference.shop", timeout_s=120).public

    with ThreadPoolExecutor(40) as threads:
        assert len(set(threads.map(ask, range(200)))) == 1


def test_a_broken_key_of_one_lane_concerns_this_lane_only(harness: KeyHarness) -> None:
    """And this epoch: its next key is created.  The replica is ready, so that it is not ended."""
    replica = harness.start()
    epoch = TIMES.number(harness.clock())
    harness.store().create(f"epochs/results.bulk/{epoch}", bytes(128), "application/octet-stream")
    replica.do_round()
    assert replica.stage.is_ready()
    shop = harness.client("shop.consumer")
    assert isinstance(shop.opening_key("results.shop", epoch, timeout_s=WAIT_S), bytes)
    with pytest.raises(Unavailable):
        harness.client("bulk.consumer").opening_key("results.bulk", epoch, timeout_s=0)
    assert harness.store().exists(f"epochs/results.bulk/{epoch + 1}")


def test_a_lane_that_takes_all_connections_leaves_some_to_the_others(
    harness: KeyHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_S", 600.0)
    monkeypatch.setattr(connections, "LIFE_S", 600.0)
    replica = harness.start()
    replica.do_round()
    context = Identity.load(harness.identities, Role("bulk.producer")).ssl_context()
    with ExitStack() as opened:
        for _ in range(MAX_CONNECTIONS):
            taken = HTTPSConnection(HOST, replica.stage.port, timeout=WAIT_S, context=context)
            opened.enter_context(closing(taken)).connect()
        assert harness.client(PRODUCER).sealing_key("inference.shop", timeout_s=60)


def test_connections_without_a_certificate_are_refused(harness: KeyHarness) -> None:
    """So are those below TLS 1.3; the service goes on."""
    replica = harness.start()
    replica.do_round()
    port, ca = replica.stage.port, harness.identities / "ca.crt"
    anonymous = ssl.create_default_context(cafile=ca)
    old = Identity.load(harness.identities, Role("sink")).ssl_context()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for context in (anonymous, old):
        connection = HTTPSConnection("127.0.0.2", port, timeout=WAIT_S, context=context)
        with closing(connection), pytest.raises(OSError):  # noqa: PT011 (TLS, or a reset)
            _get(connection)
    assert harness.client(PRODUCER).sealing_key("inference.shop", timeout_s=WAIT_S)


def _get(connection: HTTPSConnection) -> None:
    connection.request("GET", "/v1/public/inference.shop")
    connection.getresponse()


def test_a_server_that_is_not_the_key_service_is_not_asked(harness: KeyHarness) -> None:
    """The bucket has a valid certificate of the same authority."""
    client = KeyClient(
        endpoints=[harness.bucket.endpoint],
        identity=Identity.load(harness.identities, Role("sink")),
        now=harness.clock,
    )
    with pytest.raises(Unavailable, match="not the key service"):
        client.opening_key("sink", 1, timeout_s=0)


@pytest.mark.parametrize("endpoint", ["http://a:1", "a:1", "https://a", "https://a:b", ""])
def test_a_malformed_endpoint_is_refused(
    servers: tuple[Path, CertificateAuthority], endpoint: str
) -> None:
    identity = Identity.load(servers[0] / "identities", Role("sink"))
    with pytest.raises(Refused):
        KeyClient(endpoints=[endpoint], identity=identity)

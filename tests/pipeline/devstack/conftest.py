"""Certificates, jars and brokers for the tests of the embedded stack."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.broker import Broker, free_ports
from erasestream.pipeline.devstack.kafka.broker_config import single
from erasestream.pipeline.devstack.kafka.distribution import install_kafka
from erasestream.pipeline.devstack.kafka.java_launcher import SHORT_LIVED
from tests.paths import CACHE


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path_factory.mktemp("ca") / "authority", now=now)


@pytest.fixture(scope="session")
def identities(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Issue the identities of a broker and two clients."""
    folder = tmp_path_factory.mktemp("identities")
    authority.issue_broker("broker", folder)
    for role in ("admin", "shop.producer"):
        authority.issue_role(role, folder)
    return folder


@pytest.fixture(scope="session")
def cache() -> Path:
    """Return this checkout's cache, which `make` fills."""
    return CACHE


@pytest.fixture(scope="session")
def libs(cache: Path) -> Path:
    """Kafka's jars."""
    return install_kafka(cache, print)


NewBroker = Callable[[Path, Path], Broker]
"""Creates a broker in the first folder, with the identities of the second."""


@pytest.fixture(scope="session")
def new_broker(libs: Path) -> NewBroker:
    """Return a function that creates brokers on free ports; the caller stops those it starts."""

    def make(folder: Path, identities: Path) -> Broker:
        port, controller_port = free_ports(2)
        config = single(port=port, controller_port=controller_port, random=os.urandom(16))
        return Broker(folder, identities, libs, config=config, java_options=SHORT_LIVED)

    return make

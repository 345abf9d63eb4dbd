"""The health checks answer probes on loopback."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from erasestream.pipeline.runtime.health import Health
from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.schemas.errors import Refused
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition

Probe = Callable[[str], tuple[int, bytes]]


@pytest.fixture
def readiness() -> dict[str, bool]:
    """Return the readiness that the stage under test reports."""
    return {"ready": False}


@pytest.fixture
def probe(readiness: dict[str, bool]) -> Iterator[Probe]:
    """Yield a function that requests one page."""
    health = Health(port=0, ready=lambda: readiness["ready"])

    def get(path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{health.port}{path}") as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    yield get
    health.close()


def test_readyz_follows_readiness_and_healthz_does_not(
    probe: Probe, readiness: dict[str, bool]
) -> None:
    assert probe("/healthz") == (200, b"ok\n")
    assert probe("/readyz") == (503, b"not ready\n")
    readiness["ready"] = True
    assert probe("/readyz") == (200, b"ok\n")
    readiness["ready"] = False
    assert probe("/readyz")[0] == 503
    assert probe("/healthz")[0] == 200


def test_quarantined_partitions_are_named() -> None:
    """The stage stays ready for all others; the gauge has their codes, and no account."""
    registry = QuarantineRegistry()
    health = Health(port=0, ready=lambda: True, stage="route", quarantined=registry.partitions)

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{health.port}{path}") as answer:
            assert answer.status == 200
            return str(answer.read().decode())

    gauge = "erasestream_quarantined_partitions"
    line = f'{gauge}{{stage="route",topic="cutouts.shop",partition="3",code="results_missing"}} 1'
    try:
        assert get("/readyz") == "ok\n"
        assert line not in get("/metrics")
        at = Partition("cutouts.shop", 3)
        registry.quarantined(PartitionBroken(at, Defect.RESULTS_MISSING))
        assert get("/readyz") == "ok\ncutouts.shop/3 results_missing\n"
        *help_and_type, last = get("/metrics").splitlines()
        assert (len(help_and_type), last) == (2, line)
        registry.released(at)
        assert get("/readyz") == "ok\n"
    finally:
        health.close()


def test_a_stage_has_metrics_of_its_own() -> None:
    """Behind those that every stage has."""
    health = Health(port=0, ready=lambda: True, stage="infer", metrics=lambda: "slow_total 3\n")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{health.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    finally:
        health.close()
    assert lines[0].startswith("# HELP erasestream_quarantined_partitions ")
    assert lines[-1] == "slow_total 3"


@pytest.mark.parametrize("path", ["/", "/readyz/", "/../etc/passwd", "/healthz?x=1"])
def test_there_are_no_other_pages(probe: Probe, path: str) -> None:
    assert probe(path) == (404, b"no such page\n")


def test_a_taken_port_is_refused_by_number() -> None:
    first = Health(port=0, ready=lambda: True)
    try:
        with pytest.raises(Refused, match=f"health port {first.port}"):
            Health(port=first.port, ready=lambda: True)
    finally:
        first.close()

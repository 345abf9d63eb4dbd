"""Settings refuse unknown names, and their errors name settings without quoting values."""

import os
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from erasestream.pipeline.settings import load
from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.events.installation import Environment

SECRET = "5ecret-value"

MINIMAL = """
[kafka]
bootstrap_servers = ["broker:9093"]
identities = "/identities"

[lanes.shop]
"""


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the variables of this shell and any file in its working directory."""
    for name in list(os.environ):
        if name.upper().startswith("ERASESTREAM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def file(folder: Path, text: str = MINIMAL) -> Path:
    """Write a settings file with this text."""
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def refusal(path: Path | None) -> Refused:
    """Return the refusal of these settings, after checking that it does not quote the secret."""
    with pytest.raises(Refused) as refused:
        load(path)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    return refused.value


def test_defaults_are_the_safe_ones(tmp_path: Path) -> None:
    settings = load(file(tmp_path))
    assert settings.environment is Environment.PRODUCTION
    assert (settings.kafka.replication, settings.kafka.min_insync) == (3, 2)
    assert settings.kafka.consent_partitions == 32
    assert settings.kafka.history_partitions == 8
    assert settings.kafka.retained_partitions == 12
    assert settings.lifetimes.promise == timedelta(hours=24)
    assert settings.storage is None
    assert settings.inference is None
    assert settings.catalog().lane_names == ("shop",)


def test_a_replaced_setting_names_its_replacements(tmp_path: Path) -> None:
    replaced = MINIMAL.replace("[kafka]", "[kafka]\nshared_partitions = 4")
    refused = refusal(file(tmp_path, replaced))
    kept = "consent_partitions and history_partitions, which must keep its number"
    assert kept in refused.sentence
    assert "retained_partitions" in refused.sentence


def test_reads_the_file_that_the_environment_names_else_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERASESTREAM_SETTINGS", str(file(tmp_path)))
    assert load().kafka.bootstrap_servers == ("broker:9093",)
    monkeypatch.delenv("ERASESTREAM_SETTINGS")
    (tmp_path / "erasestream.toml").write_text(MINIMAL.replace("broker", "other"))
    assert load().kafka.bootstrap_servers == ("other:9093",)


def test_the_environment_overrides_single_values_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERASESTREAM_KAFKA__IDENTITIES", "/elsewhere")
    monkeypatch.setenv("ERASESTREAM_LANES__SHOP__BACKLOG_LIMIT", "PT2H")
    monkeypatch.setenv("erasestream_stage__instance", "7")
    settings = load(file(tmp_path))
    assert settings.kafka.identities == Path("/elsewhere")
    assert settings.kafka.bootstrap_servers == ("broker:9093",)
    assert settings.stage.instance == "7"
    assert settings.catalog().lanes[0].times.backlog_limit_s == 7200.0


@pytest.mark.parametrize(
    ("addition", "name"),
    [
        ("[lifetime]\npromise = 'PT1H'", "lifetime"),
        ("[lanes.bulk]\nbacklog = 'PT1H'", "lanes.bulk.backlog"),
        ("[storage]\nbuckets = 'x'", "storage.buckets"),
        ("[stage]\nport = 1", "stage.port"),
    ],
)
def test_unknown_names_in_the_file_are_refused(tmp_path: Path, addition: str, name: str) -> None:
    refused = refusal(file(tmp_path, MINIMAL + addition))
    assert refused.code is Code.MISCONFIGURED
    assert f"{name}: Extra inputs" in refused.detail


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("ERASESTREAM_LIFETIME__PROMISE", "ERASESTREAM_LIFETIME__PROMISE"),
        ("ERASESTREAM_LIFETIMES_PROMISE", "ERASESTREAM_LIFETIMES_PROMISE"),
        ("erasestream_stage_instance", "erasestream_stage_instance"),
        ("ERASESTREAM_STAGE_HEALTH_PORT", "ERASESTREAM_STAGE_HEALTH_PORT"),
        ("ERASESTREAM_KAFKA__IDENTITY", "kafka.identity"),
    ],
)
def test_unknown_variables_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, named: str
) -> None:
    """Also those that pydantic-settings ignores because they lack the second underscore."""
    monkeypatch.setenv(variable, SECRET)
    assert named in refusal(file(tmp_path)).detail


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ERASESTREAM_METRICS_PORT", "tcp://10.0.0.1:9090"),
        ("ERASESTREAM_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("ERASESTREAM_PORT", "tcp://10.0.0.1:80"),
        ("ERASESTREAM_KAFKA_PORT", "tcp://10.0.0.1:9093"),
        ("ERASESTREAM_KAFKA_PORT_9093_TCP", "tcp://10.0.0.1:9093"),
        ("ERASESTREAM_KAFKA_PORT_9093_TCP_PROTO", "tcp"),
        ("ERASESTREAM_KAFKA_PORT_9093_TCP_ADDR", "10.0.0.1"),
        ("ERASESTREAM_KAFKA_SERVICE_HOST", "10.0.0.1"),
        ("ERASESTREAM_KAFKA_SERVICE_PORT", "9093"),
        ("ERASESTREAM_KAFKA_SERVICE_PORT_TLS", "9093"),
        ("ERASESTREAM_STAGE_PORT", "udp://[fd00::1]:80"),
        ("erasestream_promise", SECRET),
    ],
)
def test_variables_of_other_programs_are_warned_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    value: str,
) -> None:
    """Kubernetes sets such for each Service, also for one that is called like a section."""
    monkeypatch.setenv(variable, value)
    assert load(file(tmp_path)).lanes
    (record,) = caplog.records
    assert record.__dict__["reason"] == f"no setting is called {variable}"


def test_variables_of_the_commands_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERASESTREAM_CACHE", "/cache")
    monkeypatch.setenv("ERASESTREAMER", "another program's")
    assert load(file(tmp_path)).lanes


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ERASESTREAM_ENVIRONMENT", "environment"),
        ("ERASESTREAM_KAFKA__REPLICATION", "kafka.replication"),
        ("ERASESTREAM_KAFKA__BOOTSTRAP_SERVERS", "kafka"),
        ("ERASESTREAM_LIFETIMES__PROMISE", "lifetimes.promise"),
        ("ERASESTREAM_STAGE__INSTANCE", "stage.instance"),
        ("ERASESTREAM_STAGE__HEALTH_PORT", "stage.health_port"),
        ("ERASESTREAM_LANES", "lanes"),
        ("ERASESTREAM_STORAGE", "storage"),
    ],
)
def test_wrong_values_are_named_and_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, name: str
) -> None:
    monkeypatch.setenv(variable, SECRET + " !")
    assert name in refusal(file(tmp_path)).detail


@pytest.mark.parametrize("deadline", ["PT0S", "PT121S", "P1D"])
def test_the_deadline_of_an_image_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline: str
) -> None:
    """Each slow image occupies a child for as long."""
    monkeypatch.setenv("ERASESTREAM_INFERENCE__MODELS", "models")
    monkeypatch.setenv("ERASESTREAM_INFERENCE__DEADLINE", deadline)
    assert "inference.deadline" in refusal(file(tmp_path)).detail


@pytest.mark.parametrize("text", [f"[kafka]\nx = {SECRET}", f"{SECRET}", "[kafka]\n[kafka]\n"])
def test_invalid_toml_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    assert "(at " in refusal(file(tmp_path, text)).detail


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(b"\xff\xd8\xff" + SECRET.encode())
    refusal(path)


def test_missing_settings_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"kafka: Field required", "lanes: Field required"} <= set(
        refusal(None).detail.removeprefix("settings: ").split(", ")
    )
    storage = refusal(file(tmp_path, MINIMAL + "[storage]\nbucket = 'b'"))
    assert "storage.vault: Field required" in storage.detail
    assert "storage.name_key: Field required" in storage.detail
    monkeypatch.setenv("ERASESTREAM_SETTINGS", "nothing.toml")
    assert "no file nothing.toml" in refusal(None).detail


@pytest.mark.parametrize(
    "value", ["PT0S", "-PT1H", "0", "nan", "inf"], ids=["none", "negative", "zero", "nan", "inf"]
)
def test_times_are_positive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ERASESTREAM_LIFETIMES__SEGMENT", value)
    assert "lifetimes.segment" in refusal(file(tmp_path)).detail


@pytest.mark.parametrize(
    "lifetimes",
    [
        "promise = 'P2D'",
        "promise = 'PT24H1S'",
        "promise = 'PT12H'",
        "reserve = 'PT20H'",
        "segment = 'PT8H'",
        "sink_outage = 'PT20H'",
        "check_interval = 'P1D'",
    ],
)
def test_lifetimes_beyond_the_promise_are_refused(tmp_path: Path, lifetimes: str) -> None:
    """By their sum; and no promise is longer than 24 hours."""
    settings = load(file(tmp_path, f"{MINIMAL}[lifetimes]\n{lifetimes}"))
    with pytest.raises(Refused) as refused:
        settings.catalog()
    assert refused.value.code is Code.PROMISE_EXCEEDED


def test_a_shorter_promise_is_accepted_if_everything_fits(tmp_path: Path) -> None:
    shorter = "promise = 'PT12H'\nrouter_outage = 'PT1H'\nsink_outage = 'PT5H'"
    catalog = load(file(tmp_path, f"{MINIMAL}[lifetimes]\n{shorter}")).catalog()
    ages = [topic.lifetime.worst_age_s for topic in catalog.topics if topic.lifetime]
    assert max(ages) == 11 * 3600


def test_settings_are_immutable(tmp_path: Path) -> None:
    settings = load(file(tmp_path))
    with pytest.raises(ValidationError):
        settings.environment = Environment.DEVELOPMENT  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.kafka.replication = 1  # type: ignore[misc]

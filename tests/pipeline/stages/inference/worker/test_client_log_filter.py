"""An outage of the brokers is logged once, and its end once."""

import logging

import pytest

from erasestream.pipeline.stages.inference.worker.client_log_filter import CALM_S, ClientLogFilter


class ClientLogHarness:
    """A filter with a clock of its own, and the events that it logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now_s = 100.0
        self.filter = ClientLogFilter(clock=lambda: self.now_s)
        self._caplog = caplog

    def client_logs(self) -> None:
        self.filter.emit(logging.makeLogRecord({"name": "aiokafka.conn"}))

    def events(self) -> list[str]:
        return [record.message for record in self._caplog.records]


def test_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    harness = ClientLogHarness(caplog)
    for _ in range(60):
        harness.client_logs()
    assert harness.events() == ["broker_trouble"]


def test_an_outage_ends_once_the_client_has_been_calm(caplog: pytest.LogCaptureFixture) -> None:
    """Acknowledgements before that come from other brokers."""
    harness = ClientLogHarness(caplog)
    harness.client_logs()
    harness.now_s += CALM_S / 2
    harness.client_logs()
    harness.now_s += CALM_S * 0.75
    harness.filter.acknowledged()
    assert harness.events() == ["broker_trouble"]
    harness.now_s += CALM_S / 2
    harness.filter.acknowledged()
    harness.filter.acknowledged()
    harness.client_logs()
    assert harness.events() == ["broker_trouble", "broker_back", "broker_trouble"]


def test_acknowledgements_without_an_outage_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    harness = ClientLogHarness(caplog)
    harness.filter.acknowledged()
    assert harness.events() == []

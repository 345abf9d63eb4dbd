"""The leak checks find what is left open."""

import socket
import threading
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from erasestream.topics.kafka import admin
from tests.leaks import (
    ConstructionFault,
    InjectedError,
    assert_no_leak,
    baseline,
    no_leak,
)

SETTINGS: dict[str, str | int | float | bool] = {
    "bootstrap.servers": "127.0.0.1:1",
    "log_level": 0,
}


def test_an_open_file_is_found(tmp_path: Path) -> None:
    before = baseline()
    with (tmp_path / "file").open("w"), pytest.raises(AssertionError, match="file descriptor"):
        assert_no_leak(before, deadline_s=0)
    assert_no_leak(before)


def test_an_open_socket_is_found() -> None:
    before = baseline()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(AssertionError, match="socket"):
            assert_no_leak(before, deadline_s=0)
    assert_no_leak(before)


def test_a_running_thread_is_found_and_waited_for() -> None:
    before, may_end = baseline(), threading.Event()
    threading.Thread(target=may_end.wait).start()
    with pytest.raises(AssertionError, match="thread"):
        assert_no_leak(before, deadline_s=0)
    may_end.set()
    assert_no_leak(before)


def test_a_client_of_librdkafka_is_found() -> None:
    before = baseline()
    client = AdminClient(SETTINGS)
    with pytest.raises(AssertionError, match="rdk:"):
        assert_no_leak(before, deadline_s=0)
    del client
    assert_no_leak(before)


def test_what_is_closed_is_no_leak(tmp_path: Path) -> None:
    with no_leak(), (tmp_path / "file").open("w"):
        pass


def test_the_nth_construction_fails_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = ConstructionFault(monkeypatch, AdminClient)
    construct = vars(admin)["AdminClient"]
    fault.arm(2)
    construct(SETTINGS)
    with pytest.raises(InjectedError, match="AdminClient"):
        construct(SETTINGS)
    assert fault.has_failed
    construct(SETTINGS)

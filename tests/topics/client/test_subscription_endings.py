"""Subscriptions end in time, by every way of ending them, also with a silent broker."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.result_reader import ReceivingLimits
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.consumer import group_consumer
from erasestream.topics.kafka.tls import Identity
from tests.kafka_fixture import KafkaFixture
from tests.leaks import no_leak
from tests.topics.client.results import TIMEOUT_S, ResultWriter, committed, cutout, take, upload_id

QUICK = ReceivingLimits(close_s=1.0, commit_every_s=3600)
"""Gives up at once on a silent broker, and commits when it closes."""

PROGRAM = """
import signal, sys
from pathlib import Path
from erasestream import Cluster, Lane, ResultSubscription
from erasestream.topics.client.result_reader import ReceivingLimits
cluster = Cluster(bootstrap_servers=(sys.argv[1],), identities=Path(sys.argv[2]))
limits = ReceivingLimits(readiness_s=90)  # a broker that was silent is slow at first
results = ResultSubscription(cluster, Lane(sys.argv[3]), group="test", limits=limits)
"""
CLOSE_IN_HANDLER = """
def stop(*_):
    results.close()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
for delivery in results:
    delivery.ack()
    print(delivery.offset, flush=True)
"""
CLOSE_IN_HANDLER_AND_GO_ON = """
signal.signal(signal.SIGTERM, lambda *_: results.close())
for delivery in results:
    delivery.ack()
    print(delivery.offset, flush=True)
"""
END_WITHOUT_CLOSING = """
results.poll(60).ack()
print("acknowledged", flush=True)
"""
TELL_AT_EXIT = """
delivery = results.poll(60)
print("delivered", flush=True)
input()
delivery.ack()
"""
FORK = """
import gc, os
child = os.fork()
if child == 0:
    try:
        results.poll(1)
    except Exception as error:
        print(error.code, flush=True)
    del results
    gc.collect()
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print(results.poll(1), flush=True)
results.close()
"""
DROP_UNPOLLED = """
import gc
del results
gc.collect()
print("dropped", flush=True)
"""


def start(kafka: KafkaFixture, lane: Lane, program: str, *options: str) -> subprocess.Popen[str]:
    arguments = [kafka.broker.bootstrap, str(kafka.identities), lane]
    return subprocess.Popen(
        [sys.executable, *options, "-c", PROGRAM + program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("program", [CLOSE_IN_HANDLER, CLOSE_IN_HANDLER_AND_GO_ON])
def test_a_signal_handler_of_the_iterating_thread_can_close(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter, program: str
) -> None:
    """It commits and leaves, and the iteration ends."""
    router.write(cutout(1))
    with start(kafka, lane, program) as running:
        assert running.stdout
        assert running.stdout.readline() == "0\n"
        running.send_signal(signal.SIGTERM)
        _, messages = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 0, messages
    assert committed(kafka, lane) == 1


def test_a_program_that_ends_without_closing_commits(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    router.write(cutout(1))
    with start(kafka, lane, END_WITHOUT_CLOSING, "-W", "default") as running:
        _, messages = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 0, messages
    assert "ResourceWarning: unclosed" in messages
    assert committed(kafka, lane) == 1


def test_a_program_that_ends_tells_what_was_not_committed(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """On standard error, within the bound of `close`."""
    router.write(cutout(1))
    with start(kafka, lane, TELL_AT_EXIT) as running:
        assert running.stdout
        assert running.stdout.readline() == "delivered\n"
        with kafka.silence():
            _, messages = running.communicate("\n", timeout=TIMEOUT_S)
    assert "1 acknowledgements" in messages


def test_a_subscription_that_was_never_polled_can_be_dropped(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Collecting it does not freeze the process."""
    with start(kafka, lane, DROP_UNPOLLED, "-W", "default") as running:
        out, messages = running.communicate(timeout=TIMEOUT_S)
    assert (running.returncode, out) == (0, "dropped\n"), messages
    assert "ResourceWarning: unclosed" in messages


def test_a_dropped_subscription_leaves_the_group(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """With a warning, and with all that was acknowledged."""
    router.write(cutout(1), cutout(2))
    with no_leak():
        dropped: ResultSubscription | None = ResultSubscription(kafka.cluster, lane, group="test")
        take(dropped, 1)[0].ack()
        with pytest.warns(ResourceWarning, match="unclosed"):
            dropped = None
    with ResultSubscription(kafka.cluster, lane, group="test") as second:
        assert take(second, 1)[0].event.id == upload_id(2)


def test_a_silent_broker_delays_no_close(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """It reports the acknowledgements that were not committed, once."""
    router.write(cutout(1))
    results = ResultSubscription(kafka.cluster, lane, group="test", limits=QUICK)
    (delivery,) = take(results, 1)
    with kafka.silence():
        delivery.ack()
        with pytest.raises(Unavailable, match="1 acknowledgements"):
            results.close()
        results.close()


def test_an_error_of_the_block_goes_on_with_a_note(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """About what was not committed."""
    router.write(cutout(1))

    def fail_in_the_block() -> None:
        with ResultSubscription(kafka.cluster, lane, group="test", limits=QUICK) as results:
            take(results, 1)[0].ack()
            os.kill(silent, signal.SIGSTOP)
            raise ZeroDivisionError

    running = kafka.broker.process_id
    assert running
    silent = running.pid
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            fail_in_the_block()
    finally:
        os.kill(silent, signal.SIGCONT)
    assert "1 acknowledgements" in caught.value.__notes__[0]


def test_a_renewal_with_a_silent_broker_delays_no_poll(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is replaced, and the broker is silent until all polls have returned."""
    is_renewed, polled = threading.Event(), threading.Event()

    class Watcher(CertificateWatcher):
        def __init__(self, identity: Identity) -> None:
            super().__init__(identity, look_every_s=0.0)

        def is_due(self) -> bool:
            is_due = super().is_due()
            if is_due:
                is_renewed.set()
            return is_due

    monkeypatch.setattr(group_consumer, "CertificateWatcher", Watcher)
    router.write(cutout(1))
    limits = ReceivingLimits(close_s=1.0)
    results = ResultSubscription(kafka.cluster, lane, group="test", limits=limits)
    take(results, 1)

    def poll() -> None:
        while not is_renewed.is_set():
            assert results.poll(0.2) is None
        for _ in range(3):
            assert results.poll(0.2) is None
        polled.set()

    with kafka.silence():
        kafka.authority.issue_role(f"{lane}.consumer", kafka.identities)
        threading.Thread(target=poll, daemon=True).start()
        assert polled.wait(TIMEOUT_S), "a poll waits for the broker"
    results.close()


def test_a_forked_child_ends_as_usual(kafka: KafkaFixture, lane: Lane) -> None:
    """It drops its copy of the subscription, and the parent's goes on."""
    with start(kafka, lane, FORK) as running:
        out, messages = running.communicate(timeout=TIMEOUT_S)
    assert (running.returncode, out) == (0, "used_after_fork\n0\nNone\n"), messages


def test_after_a_fork_every_call_is_refused(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """In the child; the parent goes on."""
    router.write(cutout(1), cutout(2))
    with ResultSubscription(kafka.cluster, lane, group="test") as results:
        (delivery,) = take(results, 1)
        for call in calls(results, delivery):
            assert status_in_child(call) == 0
        delivery.ack()
        take(results, 1)[0].ack()
    assert committed(kafka, lane) == 2


def calls(results: ResultSubscription, delivery: Delivery) -> list[Callable[[], object]]:
    return [
        lambda: results.poll(3.0),
        lambda: next(iter(results)),
        lambda: results.seek(0, 0),
        results.pause,
        results.resume,
        results.close,
        delivery.ack,
        delivery.nack,
        lambda: delivery.reject("forked"),
    ]


def status_in_child(call: Callable[[], object]) -> int:
    """Return 0 if the call is refused in a child process."""
    child = os.fork()
    if child == 0:
        try:
            call()
        except Refused as refused:
            os._exit(0 if refused.code == "used_after_fork" else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

"""When a transaction begins and ends: on a real broker, by a clock of the test's own."""

from erasestream.topics.kafka.records import Record
from erasestream.topics.kafka.transaction.batch import MAX_OPEN_S
from tests.topics.kafka.transaction.loop_harness import NEVER_S, LoopHarness


def test_commits_when_the_input_is_drained(scripted: LoopHarness) -> None:
    """Whatever the clock: a read that finds nothing ends the transaction, and none before it."""
    scripted.produce(b"1", b"2", b"3")
    loop = scripted.start(interval_s=NEVER_S)
    scripted.run_until_handled(3)
    assert loop.counters.committed == 0
    assert scripted.committed() == []
    assert loop.run_once() == 0
    assert loop.counters.committed == 1
    scripted.await_committed([b"1", b"2", b"3"])


def test_commits_after_the_interval(scripted: LoopHarness) -> None:
    """Although there is more to read."""
    handler = scripted.handler
    handler.before = lambda _: setattr(handler, "now_s", handler.now_s + 0.1)
    scripted.produce(b"1", b"2")
    loop = scripted.start(interval_s=0.1)
    scripted.run_until_handled(2)
    assert loop.counters.committed == 1
    scripted.await_committed([b"1", b"2"])


def test_commits_during_a_read_whose_records_take_long(scripted: LoopHarness) -> None:
    """No transaction is open for longer than its bound."""
    ages_s: list[float] = []

    def take_long(_: Record) -> None:
        assert scripted.loop
        ages_s.append(scripted.loop._transaction.age_s)
        scripted.handler.now_s += 2.0

    scripted.handler.before = take_long
    values = [f"{number}".encode() for number in range(12)]
    scripted.produce(*values)
    loop = scripted.start(interval_s=NEVER_S)
    scripted.run_until_handled(12)
    assert 0 < max(ages_s) <= MAX_OPEN_S
    assert loop.counters.committed == 3
    scripted.await_committed(values[:9])
    loop.run_once()
    scripted.await_committed(values)

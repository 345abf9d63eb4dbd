"""Records that wait for a dependency."""

from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.read_records import MAX_PAUSE_S, ReadRecords

AT = Partition("cutouts.a", 0)


def test_a_slow_dependency_is_asked_again_soon_however_often_it_was_asked() -> None:
    """A large original may take seconds, and must not wait for a long pause after that."""
    now = 0.0
    read = ReadRecords(clock=lambda: now)
    read.add([Record(AT, 0, 0, None, [], b"")])
    for _ in range(20):
        read.pause(AT)
        now += MAX_PAUSE_S
        assert read.end_pauses() == [AT]

"""Records as they are read and written, independent of the client library."""

from collections.abc import Callable
from operator import methodcaller
from typing import NamedTuple, Self, cast

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from erasestream.schemas.errors import InvariantBroken

Headers = list[tuple[str, bytes]]
Header = tuple[str, bytes | None]

_new = tuple.__new__
_CHECKED_HEADERS = methodcaller("headers")
"""If a name is not UTF-8, the library (2.16) returns a list with null pointers and sets an
exception.  CPython checks for that in a call like this; `message.headers()`, once the interpreter
has specialized the call, returns the list, and the process ends with a segfault."""


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


class Record(NamedTuple):
    """A record that was read.  `appended_ms` is the broker's clock when it was appended."""

    at: Partition
    offset: int
    appended_ms: int
    key: bytes | None
    headers: Headers
    value: bytes

    @classmethod
    def of(cls, message: Message) -> Self:
        """Return the record in a message.

        Raises `InvariantBroken` if its timestamp is not the broker's: the 24 hours are counted
        from it.
        """
        topic, number, offset = message.topic(), message.partition(), message.offset()
        kind, appended_ms = message.timestamp()
        if topic is None or number is None or offset is None:
            raise InvariantBroken("a message that is not a record")
        if kind != TIMESTAMP_LOG_APPEND_TIME:
            raise InvariantBroken(f"{topic} does not stamp records with the broker's clock")
        key, value = message.key(), message.value() or b""
        # A view reads millions when it starts: the generated constructors take three times as long.
        at = _new(Partition, (topic, number))
        return _new(cls, (at, offset, appended_ms, key, _headers(message), value))


def _headers(message: Message) -> Headers:
    """Return the headers; an empty list if a name is not UTF-8."""
    try:
        headers = cast("list[Header]", _CHECKED_HEADERS(message) or [])
    except SystemError as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            return []
        raise
    for _, value in headers:
        if value is None:
            return [(name, value or b"") for name, value in headers]
    return cast("Headers", headers)


class Outgoing(NamedTuple):
    """A record to write; partition -1 leaves the choice to the partitioner."""

    topic: str
    partition: int
    key: bytes | None
    headers: Headers
    value: bytes
    follow_up: "Callable[[int], Outgoing] | None" = None
    """Makes a record that tells the offset at which this one was appended, for the same transaction
    (`transaction/follow_ups.py`)."""

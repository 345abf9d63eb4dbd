"""The clients that a producer sends with, each with a thread that serves it.

One is made anew if the certificate was renewed, or if it broke.  The one of before goes on
until what it was given is acknowledged, and is let go the next time that one is made.
"""

import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from erasestream.schemas.cloudevents import Wire
from erasestream.topics.connection import Settings, is_fatal, kafka_error
from erasestream.topics.lifeline import Lifeline
from erasestream.topics.renewal import Renewal

_POLL_S = 0.1

Delivered = Callable[[KafkaError | None, Message], None]
"""Is told what became of a record, in the thread of its client."""


class SendingClients:
    """The client of now, and those of before it that are not done.  Thread-safe."""

    def __init__(
        self, settings: Settings, *, renewal: Renewal, lifeline: Lifeline, name: str
    ) -> None:
        """`name`: of the threads."""
        self._settings = settings
        self._renewal = renewal
        self._lifeline = lifeline
        self._name = name
        self._handing = threading.Lock()
        self._clients = [self._connected()]
        # Whoever forgets close(): the threads must be out of librdkafka when Python ends.
        weakref.finalize(self, _stop, self._clients)

    def _connected(self) -> "_Client":
        return _Client.connected(self._settings, self._lifeline, self._name)

    def produce(self, topic: str, wire: Wire, delivered: Delivered) -> None:
        """Hand over a record.  Raises what the library raises."""
        client = self._current()
        try:
            client.producer.produce(
                topic, wire.value, headers=list(wire.headers), on_delivery=delivered
            )
        except KafkaException as exception:
            if is_fatal(kafka_error(exception)):
                client.broken.set()
            raise

    def _current(self) -> "_Client":
        with self._handing:
            if self._renewal.is_due() or self._clients[-1].broken.is_set():
                done = [old for old in self._clients[:-1] if not len(old.producer)]
                _stop(done)
                self._clients[:] = [each for each in self._clients if each not in done]
                self._clients.append(self._connected())
            return self._clients[-1]

    def purge(self) -> None:
        """Give up every record that waits; each is told so."""
        for client in self._clients:
            client.producer.purge()

    def close(self) -> None:
        """End the threads."""
        _stop(self._clients)
        for client in self._clients:
            client.poller.join()


class _Client(NamedTuple):
    """One client of librdkafka, and the thread that serves it.

    `broken`: it met a fatal error, or lost its brokers, and is of no use any more.
    """

    producer: Producer
    poller: threading.Thread
    stopped: threading.Event
    broken: threading.Event

    @classmethod
    def connected(cls, settings: Settings, lifeline: Lifeline, name: str) -> Self:
        """With the certificate as it is now."""
        producer, stopped, broken = Producer(settings), threading.Event(), threading.Event()
        poller = threading.Thread(
            target=_serve, args=(producer, lifeline, stopped, broken), name=name, daemon=True
        )
        poller.start()
        return cls(producer, poller, stopped, broken)


def _stop(clients: list[_Client]) -> None:
    for client in clients:
        client.stopped.set()


def _serve(
    client: Producer, lifeline: Lifeline, stopped: threading.Event, broken: threading.Event
) -> None:
    """Serve acknowledgements until told to stop.  Holds nothing but the client.

    A fatal error is raised once, here; then every record that waits is served as given up.
    """
    while not stopped.is_set():
        try:
            client.poll(_POLL_S)
            if not broken.is_set() and lifeline.is_lost(client):
                broken.set()
        except KafkaException:
            broken.set()

"""The clients that a producer sends with, each with a thread that serves it.

One is made anew if the certificate was renewed, or if it broke.  The one of before goes on
until what it was given is acknowledged, and is let go the next time that one is made.

A record is given up here and not by librdkafka.  When that gives one up, or one is refused, it
numbers all others anew, of all partitions, also those that a broker may have already: sent again
under another number they are appended twice (seen with 2.15;
`tests/topics/kafka/test_connection_loss.py`).  So a client that waits too long for
one record gives up all that it has, and is not used any more; and with the gapless guarantee it
sends nothing more once it would have to number anew.
"""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Settings
from erasestream.topics.kafka.errors import is_fatal, kafka_error

_POLL_S = 0.1

Delivered = Callable[[KafkaError | None, Message], None]
"""Is told what became of a record, in the thread of its client."""


class ProducerPool:
    """The client of now, and those of before it that are not done.  Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        *,
        delivery_s: float,
        renewal: CertificateWatcher,
        lifeline: BrokerLossDetector,
        name: str,
    ) -> None:
        """`delivery_s`: after which a record is given up; `name`: of the threads."""
        once = {"enable.idempotence": True, "enable.gapless.guarantee": True}
        self._settings = settings | once | {"delivery.timeout.ms": 0}  # never: see above
        self._delivery_s = delivery_s
        self._renewal = renewal
        self._lifeline = lifeline
        self._name = name
        self._handing = threading.Lock()
        self._clients = [self._connected()]
        # Whoever forgets close(): the threads must be out of librdkafka when Python ends.
        weakref.finalize(self, _stop, self._clients)

    def _connected(self) -> "_Client":
        return _Client(self._settings, self._delivery_s, self._lifeline, self._name)

    def produce(self, topic: str, wire: Wire, delivered: Delivered) -> None:
        """Hand over a record.  Raises what the library raises."""
        self._current().produce(topic, wire, delivered)

    def _current(self) -> "_Client":
        with self._handing:
            if self._renewal.is_due() or self._clients[-1].is_broken:
                done = [old for old in self._clients[:-1] if old.is_empty]
                _stop(done)
                self._clients[:] = [each for each in self._clients if each not in done]
                self._clients.append(self._connected())
            return self._clients[-1]

    def purge(self) -> None:
        """Give up every record that waits; each is told so."""
        for client in self._clients:
            client.purge()

    def close(self) -> None:
        """End the threads."""
        _stop(self._clients)
        for client in self._clients:
            client.join()


def _stop(clients: "list[_Client]") -> None:
    for client in clients:
        client.stopped.set()


class _Record:
    """One that was handed over: who is told what became of it, and when it is given up."""

    __slots__ = ("_delivered", "give_up_at", "is_done")

    def __init__(self, delivered: Delivered, give_up_at: float) -> None:
        self._delivered = delivered
        self.give_up_at = give_up_at
        self.is_done = False

    def answered(self, error: KafkaError | None, message: Message) -> None:
        """Pass it on to whoever waits."""
        self.is_done = True
        self._delivered(error, message)


class _Client:
    """One client of librdkafka, with the certificate of now, and the thread that serves it."""

    def __init__(
        self, settings: Settings, delivery_s: float, lifeline: BrokerLossDetector, name: str
    ) -> None:
        self.stopped = threading.Event()
        self.is_broken = False
        """It met a fatal error, lost its brokers or gave records up, and is of no use any more."""
        self._producer = Producer(settings)
        self._delivery_s = delivery_s
        self._lifeline = lifeline
        self._records: deque[_Record] = deque()
        """As they were handed over; those in front wait for their answer."""
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_empty(self) -> bool:
        """Whether all that it was given is acknowledged or given up."""
        return not len(self._producer)

    def produce(self, topic: str, wire: Wire, delivered: Delivered) -> None:
        """Hand over a record.  Raises what the library raises."""
        record = _Record(delivered, time.monotonic() + self._delivery_s)
        self._records.append(record)
        try:
            self._producer.produce(
                topic, wire.value, headers=list(wire.headers), on_delivery=record.answered
            )
        except BaseException as exception:
            record.is_done = True  # nobody answers
            if isinstance(exception, KafkaException) and is_fatal(kafka_error(exception)):
                self.is_broken = True
            raise

    def purge(self) -> None:
        """Give up every record that waits; each is told so."""
        self._producer.purge()

    def join(self) -> None:
        """Wait until it has stopped."""
        self._thread.join()

    def _serve(self) -> None:
        """Serve acknowledgements until told to stop.

        A fatal error is raised once, here.  Whatever breaks it, all that wait are given up.
        """
        while not self.stopped.is_set():
            try:
                self._producer.poll(_POLL_S)
            except KafkaException:
                self.is_broken = True
            if self._is_overdue() or self._is_lost():
                self.is_broken = True
            if self.is_broken and not self.is_empty:
                self.purge()

    def _is_overdue(self) -> bool:
        while self._records and self._records[0].is_done:
            self._records.popleft()
        return bool(self._records) and self._records[0].give_up_at < time.monotonic()

    def _is_lost(self) -> bool:
        try:
            return not self.is_broken and self._lifeline.is_lost(self._producer)
        except KafkaException:
            return False  # nobody else can ask: certificate and key are being replaced, say

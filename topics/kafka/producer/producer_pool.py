"""The clients that uploads are sent with, each with a thread that serves it.

Rules, all of them:

* Records go to the current client.  It is replaced if the certificate was renewed, or if it broke:
  it met a fatal error, lost its brokers or gave records up.
* A replaced client gets no more records.  Its thread closes it once all that it has are
  acknowledged or given up.  The same holds for the clients of a pool that was dropped unclosed.
* At the end of the program `program_end.py` waits for all clients that are not closed.
* A record is given up here and not by librdkafka.  When librdkafka gives one up, or one is refused,
  it renumbers all others, of all partitions, even those that a broker may have already: sent again
  under another number they are appended twice (seen with 2.15;
  `tests/topics/kafka/test_connection_loss.py`).  So a client in which one record waits too long
  gives up all of its records, and is broken; and with the gapless guarantee it sends nothing more
  once it would have to renumber.
"""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import ClientClosed, MissingCertificate
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Settings
from erasestream.topics.kafka.errors import is_fatal, kafka_error
from erasestream.topics.kafka.producer import program_end
from erasestream.topics.kafka.producer.closing import close_producer
from erasestream.topics.kafka.queueing import queue
from erasestream.topics.kafka.records import Outgoing
from erasestream.topics.kafka.replaceable_client import ReplaceableClient

CLOSE_S = 5.0
"""Longest wait of `close` for the outcomes of given-up records, and for the end of the threads."""
_POLL_S = 0.1
_CLOSE_POLL_S = 0.01

Delivered = Callable[[KafkaError | None, Message], None]
"""Takes a record's outcome, in the thread of its client."""


class ProducerPool:
    """The current client, and replaced ones that wait for acknowledgements.  Thread-safe."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        delivery_s: float,
        certificate: CertificateWatcher,
        broker_loss: BrokerLossDetector,
        name: str,
    ) -> None:
        """`delivery_s`: after which a record is given up; `name`: of the threads.

        `settings` returns those of a client that is opened now.
        """
        once = {"enable.idempotence": True, "enable.gapless.guarantee": True}
        never = {"delivery.timeout.ms": 0}  # see above
        opened: list[_Client] = []

        def open_client() -> _Client:
            opened[:] = [client for client in opened if client.is_running]
            opened.append(_Client(settings() | once | never, delivery_s, broker_loss, name))
            return opened[-1]

        self._opened = opened
        self._certificate = certificate
        self._clients = ReplaceableClient(open_client, _Client.retire)
        weakref.finalize(self, _retire, opened).atexit = False

    def produce(self, topic: str, wire: Wire, delivered: Delivered) -> None:
        """Queue a record.  Raises what the library raises, and `ClientClosed`."""
        with self._clients.use() as client:
            if not client.is_broken and not self._certificate.is_due():
                client.produce(topic, wire, delivered)
                return
            self._clients.replace(client)
        with self._clients.use() as client:
            client.produce(topic, wire, delivered)

    def begin_close(self) -> None:
        """Let the clients close once no record waits.  Never blocks."""
        self._clients.close()

    def close(self, timeout_s: float = 0.0, *, wait: Callable[[float], None] = time.sleep) -> None:
        """Wait for acknowledgements, give up the rest, close the clients and end their threads.

        All outcomes are passed on when it returns, at the latest `CLOSE_S` after the timeout.
        A signal handler may call it that has interrupted `produce`; the thread then ends after
        the handler.  `wait` must not block the callbacks for outcomes.
        """
        self.begin_close()
        deadline = Deadline(timeout_s, time.monotonic)
        while self._is_waiting() and not deadline.has_passed:
            wait(_CLOSE_POLL_S)
        for client in self._opened:
            client.give_up()
        deadline = Deadline(CLOSE_S, time.monotonic)
        while any(client.is_running for client in self._opened) and not deadline.has_passed:
            if self._clients.is_lent_to_caller and not self._is_waiting():
                return
            wait(_CLOSE_POLL_S)

    def _is_waiting(self) -> bool:
        return any(client.waiting for client in self._opened)


def _retire(clients: "list[_Client]") -> None:
    for client in clients:
        client.retire()


class _Record:
    """A queued record: the callback for its outcome, and the time at which it is given up."""

    __slots__ = ("_delivered", "deadline", "is_done", "is_queued")

    def __init__(self, delivered: Delivered, deadline: Deadline) -> None:
        self._delivered = delivered
        self.deadline = deadline
        self.is_queued = False
        """Whether librdkafka certainly has it; see `_Client.waiting`."""
        self.is_done = False

    def answered(self, error: KafkaError | None, message: Message) -> None:
        """Pass the outcome on."""
        try:
            self._delivered(error, message)
        finally:
            self.is_done = True


class _Client:
    """One client of librdkafka, and the thread that serves and closes it."""

    def __init__(
        self, settings: Settings, delivery_s: float, broker_loss: BrokerLossDetector, name: str
    ) -> None:
        self.is_broken = False
        """Unusable for further records."""
        self._is_retired = self._gives_up = self._is_abandoned = False
        self.name = name
        self._delivery_s = delivery_s
        self._broker_loss = broker_loss
        self._records: deque[_Record] = deque()
        """In the order in which they were queued; the first ones wait for their answer."""
        self._producer = Producer(settings)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            close_producer(self._producer)
            raise
        program_end.opened(self)

    @property
    def is_running(self) -> bool:
        """Whether it is not closed."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Number of records whose outcome is not passed on.

        A record that librdkafka may not have yet, because a signal handler interrupts `produce` and
        asks, counts only while librdkafka has any.
        """
        waiting = [record for record in list(self._records) if not record.is_done]
        return sum(record.is_queued or len(self._producer) > 0 for record in waiting)

    def produce(self, topic: str, wire: Wire, delivered: Delivered) -> None:
        """Queue a record.  Raises what the library raises."""
        if self._gives_up:
            raise ClientClosed  # a signal handler closed us after the client was lent
        record = _Record(delivered, Deadline(self._delivery_s, time.monotonic))
        try:
            self._records.append(record)
            queue(self._producer, Outgoing(topic, -1, None, *wire), record.answered)
            record.is_queued = True
        except BaseException as exception:
            record.is_done = True  # it gets no answer
            if isinstance(exception, KafkaException) and is_fatal(kafka_error(exception)):
                self.is_broken = True
            raise

    def retire(self) -> None:
        """Close once no record waits.  `produce` is not called any more."""
        self._is_retired = True

    def give_up(self) -> None:
        """Give up all records that wait."""
        self._gives_up = True

    def abandon(self) -> None:
        """End the thread without closing."""
        self._is_abandoned = True

    def _serve(self) -> None:
        """Serve acknowledgements until retired and empty.

        A fatal error is raised once, here.  Whatever breaks the client, all that wait are given up.
        """
        while not self._is_abandoned:
            try:
                self._producer.poll(_POLL_S)
            except KafkaException:
                self.is_broken = True
            if self._is_overdue() or self._is_lost():
                self.is_broken = True
            if (self.is_broken or self._gives_up) and len(self._producer):
                self._producer.purge()
            if self._is_retired and not len(self._producer):
                close_producer(self._producer)
                program_end.closed(self)
                return

    def _is_overdue(self) -> bool:
        while self._records and self._records[0].is_done:
            self._records.popleft()
        return bool(self._records) and self._records[0].deadline.has_passed

    def _is_lost(self) -> bool:
        try:
            return not self.is_broken and self._broker_loss.is_lost(self._producer)
        except (KafkaException, MissingCertificate):
            return False  # no other client can be opened: the certificate is being replaced, say

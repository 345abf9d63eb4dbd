"""Detect that a client lost all broker metadata although the brokers are reachable.

librdkafka drops every broker that a metadata response does not name.  A broker that is starting or
stopping can answer that there is none: the client then has no broker left to ask, and stays silent
(its issue 5301, open; seen with 2.15 and 2.16).  Only another client recovers.
"""

import logging
import time

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState

log: logging.Logger = logging.getLogger(__name__)

SUSPECT_AFTER_S = 10.0
"""A client that reports all brokers down for this long is probed."""
PROBE_EVERY_S = 20.0
PROBE_TIMEOUT_S = 3.0
FAILED_PROBES = 3
"""Unanswered probes in a row that make a client lost: one may go to a broker that hangs."""


class BrokerLossDetector:
    """Probes a long-lived client that reports all brokers down."""

    def __init__(
        self, connection: Connection, errors: ClientErrorState, *, clock: Clock = time.monotonic
    ) -> None:
        """`errors`: the error callback of the client."""
        self._connection = connection
        self._errors = errors
        self._clock = clock
        self._next_probe = Deadline(0, clock)
        self._failed_probes = 0

    def is_lost(self, client: Consumer | Producer) -> bool:
        """Return whether another client reaches the brokers and this one repeatedly does not.

        Free of cost as long as the client reaches a broker; otherwise a probe takes some seconds,
        every `PROBE_EVERY_S`.
        """
        since_s = self._errors.all_down_since_s
        if since_s is None:
            self._failed_probes = 0
            return False
        if self._clock() - since_s < SUSPECT_AFTER_S or not self._next_probe.has_passed:
            return False
        self._next_probe = Deadline(PROBE_EVERY_S, self._clock)
        if _is_answered(client):
            self._reset()
            return False
        if not self._is_another_answered():
            return False
        self._failed_probes += 1
        if self._failed_probes < FAILED_PROBES:
            return False
        log.warning("client_lost")
        self._reset()  # the next client starts without a suspicion
        return True

    def check(self, client: Consumer | Producer) -> None:
        """Raise `Unavailable` if the client is lost: a restart replaces it."""
        if self.is_lost(client):
            raise Unavailable(
                "the client lost all broker metadata although the brokers are reachable"
            )

    def _is_another_answered(self) -> bool:
        with AdminClient(self._connection.settings(ClientErrorState())) as other:
            return _is_answered(other)

    def _reset(self) -> None:
        self._failed_probes = 0
        self._errors.recovered()


def _is_answered(client: Consumer | Producer | AdminClient) -> bool:
    try:
        client.list_topics(timeout=PROBE_TIMEOUT_S)
    except KafkaException:
        return False
    return True

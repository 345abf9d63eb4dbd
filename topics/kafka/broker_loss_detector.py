"""Notice that a client has forgotten its brokers, although they are there.

librdkafka forgets every broker that an answer about the cluster does not name.  A broker that is
just starting or stopping can answer that there is none: the client then has nobody left to ask,
and is silent for good (its issue 5301, open; seen with 2.15 and 2.16).  It takes another client.
"""

import logging
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState

log = logging.getLogger(__name__)

AFTER_S = 10.0
"""How long all brokers are away before anybody asks whether it is so."""
AGAIN_S = 20.0
ANSWER_S = 3.0
TIMES = 3
"""How often in a row a client must not be answered: one may ask a broker that stands still."""


class BrokerLossDetector:
    """What a client that reads or writes for long is asked about now and then."""

    def __init__(
        self,
        connection: Connection,
        watch: ClientErrorState,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`watch`: the error callback of the client."""
        self._connection = connection
        self._watch = watch
        self._clock = clock
        self._not_before_s = 0.0
        self._unanswered = 0

    def is_lost(self, client: Consumer | Producer) -> bool:
        """Whether another client reaches the brokers, and this one does not, again and again.

        Costs nothing as long as the client has not said that all are away; then some seconds,
        now and then.
        """
        since_s = self._watch.all_away_since_s
        if since_s is None:
            self._unanswered = 0
            return False
        if self._clock() < max(since_s + AFTER_S, self._not_before_s):
            return False
        self._not_before_s = self._clock() + AGAIN_S
        if _is_answered(client):
            self._settle()
            return False
        if not _is_answered(AdminClient(self._connection.settings(ClientErrorState()))):
            return False
        self._unanswered += 1
        if self._unanswered < TIMES:
            return False
        log.warning("client_lost")
        self._settle()  # whoever comes next has lost nobody yet
        return True

    def _settle(self) -> None:
        self._unanswered = 0
        self._watch.settled()

    def check(self, client: Consumer | Producer) -> None:
        """Raises `Unavailable` if it is lost: who starts again gets another."""
        if self.is_lost(client):
            raise Unavailable("a client has forgotten its brokers, which are there")


def _is_answered(client: Consumer | Producer | AdminClient) -> bool:
    try:
        client.list_topics(timeout=ANSWER_S)
    except KafkaException:
        return False
    return True

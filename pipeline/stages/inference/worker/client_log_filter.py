"""What the Kafka client of the inference stage says of brokers that are away: once.

aiokafka writes some sixty lines a second while it tries to connect.
"""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

CLIENT = "aiokafka"
CALM_S = 5.0
"""For so long the client must have had nothing to say: other brokers go on acknowledging."""


class ClientLogFilter(logging.Handler):
    """Takes the lines of the client; says so once, and again when all was well in between."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._said = False
        self._last_s = 0.0

    def take_over(self) -> None:
        """From now on the client's own lines go nowhere else."""
        client = logging.getLogger(CLIENT)
        client.handlers = [self]
        client.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """One line of the client."""
        self._last_s = self._clock()
        if not self._said:
            self._said = True
            log.warning("broker_trouble", extra={"stage": "infer", "reason": record.name})

    def settled(self) -> None:
        """The brokers have acknowledged something: the trouble is over, if it is long ago."""
        if self._said and self._clock() - self._last_s > CALM_S:
            log.warning("broker_back", extra={"stage": "infer"})
            self._said = False

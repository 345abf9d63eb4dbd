"""What the Kafka client of the inference stage says of brokers that are away: once.

aiokafka writes some sixty lines a second while it tries to connect.
"""

import logging

log = logging.getLogger(__name__)

CLIENT = "aiokafka"


class BrokerTrouble(logging.Handler):
    """Takes the lines of the client; says so once, and again when all was well in between."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said = False

    def take_over(self) -> None:
        """From now on the client's own lines go nowhere else."""
        client = logging.getLogger(CLIENT)
        client.handlers = [self]
        client.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """One line of the client."""
        if not self._said:
            self._said = True
            log.warning("broker_trouble", extra={"stage": "infer", "reason": record.name})

    def settled(self) -> None:
        """The brokers have acknowledged something: the trouble is over."""
        if self._said:
            log.warning("broker_back", extra={"stage": "infer"})
        self._said = False

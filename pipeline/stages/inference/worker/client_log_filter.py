"""Log an outage of the brokers once, in place of the Kafka client's own lines.

aiokafka writes some sixty lines a second while it tries to connect.
"""

import logging
import time

from erasestream.schemas.clocks import Clock, Deadline

log: logging.Logger = logging.getLogger(__name__)

CLIENT = "aiokafka"
CALM_S = 5.0
"""An outage is over once the client has logged nothing for this long: while one broker is
unavailable, the others go on acknowledging."""


class ClientLogFilter(logging.Handler):
    """Handles the client's log lines; logs the begin and the end of an outage."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._calm: Deadline | None = None
        """When the outage is over, unless the client logs more; None if there is none."""

    def install(self) -> None:
        """Take over the client's log lines: no other handler gets them."""
        client = logging.getLogger(CLIENT)
        client.handlers = [self]
        client.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Handle a line of the client."""
        is_known = self._calm is not None
        self._calm = Deadline(CALM_S, self._clock)
        if not is_known:
            log.warning("broker_trouble", extra={"stage": "infer", "reason": record.name})

    def acknowledged(self) -> None:
        """Note that a broker has acknowledged a record, which may be the end of an outage."""
        if self._calm is not None and self._calm.has_passed:
            self._calm = None
            log.warning("broker_back", extra={"stage": "infer"})

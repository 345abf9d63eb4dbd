"""End the process within a bound after SIGTERM or SIGINT, whatever does not answer.

Supervisors kill a process some time after SIGTERM: Kubernetes and our compose file after 30 s.
Closing a client may take longer than that while brokers are unavailable, and Python runs a signal's
handler only once a library's call has returned.  So a thread counts, to which the interpreter
writes each signal at once (`signal.set_wakeup_fd`).

A process that is ended so leaves what a crash leaves: nothing is acknowledged before it is done,
and the next process does it again.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

log = logging.getLogger(__name__)

END_WITHIN_S = 20.0
"""Time to finish and to close; supervisors give 30 s."""

_ENDING = {signal.SIGTERM, signal.SIGINT}


class BoundedEnd:
    """Counts from the first signal on that has a handler.  Create it in the main thread."""

    def __init__(self, stage: str, *, within_s: float = END_WITHIN_S) -> None:
        self._stage = stage
        self._within_s = within_s
        self.is_asked = False
        """Whether the process was asked to end."""
        self._received, self._signals = socket.socketpair()
        self._signals.settimeout(0)
        signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._run, name="end", daemon=True).start()

    def begin(self) -> None:
        """Count from now on: for an event loop, which takes the interpreter's signals over."""
        with suppress(BlockingIOError):
            self._signals.send(bytes([signal.SIGTERM]))

    def _run(self) -> None:
        while self._received.recv(1)[0] not in _ENDING:
            pass
        self.is_asked = True
        time.sleep(self._within_s)
        reason = f"not closed within {self._within_s:g} s"
        log.warning("ended", extra={"stage": self._stage, "reason": reason})
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(os.EX_OK)

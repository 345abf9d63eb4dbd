"""The gateway as a stage.

Requests are answered in the event loop's thread; `run_once` follows the API keys, so that a
revocation counts at once, records their use, and reads a renewed certificate.
"""

import logging
import time
from concurrent.futures import Future
from datetime import date
from queue import Empty, SimpleQueue

from erasestream.pipeline.gateway.core import ImageCore
from erasestream.pipeline.gateway.https_server import HttpsServer
from erasestream.pipeline.gateway.tls_context import ServerTls
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.credentials.view import CredentialView
from erasestream.topics.credentials.writer import CredentialWriter

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0


class UsedKeys:
    """Keys whose use on a day is to be recorded, each once.  Put by one thread, taken by another.

    Other gateways record theirs as well: at most one record per key, day and gateway.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[str, date]] = SimpleQueue()
        self._noted: dict[str, date] = {}

    def note(self, key_id: str, day: date) -> None:
        """Note a use."""
        if self._noted.get(key_id) != day:
            self._noted[key_id] = day
            self._queue.put((key_id, day))

    def take(self) -> tuple[str, date] | None:
        """Return a use that is not recorded; None if all are."""
        try:
            return self._queue.get_nowait()
        except Empty:
            return None


class GatewayStage:
    """One gateway."""

    def __init__(
        self,
        *,
        server: HttpsServer,
        serving: Future[None],
        core: ImageCore,
        keys: CredentialView,
        writer: CredentialWriter,
        used: UsedKeys,
        tls: ServerTls,
        clock: Clock = time.monotonic,
    ) -> None:
        """Take the server and its work, which ends with it (`serving`)."""
        self._server = server
        self._serving = serving
        self._core = core
        self._keys = keys
        self._writer = writer
        self._used = used
        self._tls = tls
        self._clock = clock
        self._look = Deadline(LOOK_EVERY_S, clock)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.port

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Follow the keys for up to the timeout.  Raises the error that ended the server."""
        if self._serving.done():
            self._serving.result()
            raise Unavailable("the server has ended")
        if (failure := self._core.failure) is not None:
            raise failure
        self._keys.follow(timeout_s)
        if (used := self._used.take()) is not None:
            self._record(*used)
        if self._look.has_passed:
            self._look = Deadline(LOOK_EVERY_S, self._clock)
            if self._tls.renew():
                log.info("certificate_renewed", extra={"port": self.port})

    def _record(self, key_id: str, day: date) -> None:
        try:
            self._writer.record_use(key_id, day)
        except Unavailable as error:  # informational: the next day has another chance
            log.warning("use_not_recorded", extra={"code": error.code})

    def is_ready(self) -> bool:
        """Return whether requests can be answered."""
        return self._server.is_serving and self._keys.is_fresh

    def close(self) -> None:
        """Accept no more requests, and finish those in flight."""
        self._server.stop()
        self._serving.result()

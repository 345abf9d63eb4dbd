"""The gateway as a stage.

Requests are answered in the event loop's thread; `run_once` follows the API keys, so that a
revocation counts at once, records their use, writes the heartbeat of their topic, and reads a
renewed certificate.  None of that waits long for a broker: the keys must stay fresh.
"""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import date
from queue import Empty, SimpleQueue
from typing import Protocol

from erasestream.pipeline.gateway.core import ImageCore
from erasestream.pipeline.gateway.https_server import HttpsServer
from erasestream.pipeline.gateway.tls_context import ServerTls
from erasestream.pipeline.runtime.heartbeat_schedule import HeartbeatSchedule
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.credentials.view import CredentialView
from erasestream.topics.kafka.producer.acknowledged_writer import Written

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
MAX_RECORDING = 100
"""Uses that are not acknowledged yet; further ones wait."""


class UseRecords(Protocol):
    """The records of when keys were used (`CredentialWriter`)."""

    def begin_use(self, key_id: str, day: date, /) -> Future[Written]:
        """Begin to record a use.  Raises `Unavailable`."""

    def poll(self, answers: Sequence[Future[Written]], /) -> None:
        """Take what the brokers have answered, without waiting."""


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
        records: UseRecords,
        used: UsedKeys,
        heartbeats: HeartbeatSchedule,
        tls: ServerTls,
        clock: Clock = time.monotonic,
    ) -> None:
        """Take the server and its work, which ends with it (`serving`)."""
        self._server = server
        self._serving = serving
        self._core = core
        self._keys = keys
        self._records = records
        self._used = used
        self._recording: list[Future[Written]] = []
        self._heartbeats = heartbeats
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
        self._record_uses()
        self._heartbeats.run_if_due()
        if self._look.has_passed:
            self._look = Deadline(LOOK_EVERY_S, self._clock)
            if self._tls.renew():
                log.info("certificate_renewed", extra={"port": self.port})

    def _record_uses(self) -> None:
        """Hand over the uses that are known, and take the outcome of those before."""
        try:
            while len(self._recording) < MAX_RECORDING and (used := self._used.take()):
                self._recording.append(self._records.begin_use(*used))
        except Unavailable as error:
            self._miss(error)
        self._records.poll(self._recording)
        for answer in [each for each in self._recording if each.done()]:
            self._recording.remove(answer)
            failure = answer.exception()
            if isinstance(failure, Unavailable):
                self._miss(failure)
            elif failure is not None:
                raise failure

    @staticmethod
    def _miss(error: Unavailable) -> None:
        """Go on: the next day has another chance."""
        log.warning("use_not_recorded", extra={"code": error.code})

    def is_ready(self) -> bool:
        """Return whether requests can be answered."""
        is_current = self._keys.is_fresh and self._core.index.is_loaded
        return self._server.is_serving and is_current

    def loaded(self) -> int:
        """Return how far that is read which is not known yet: as many images as there may be.

        Records of the rest do not count: with them, one partition that cannot be read would
        delay the deadline as long as there is traffic.
        """
        keys = 0 if self._keys.is_fresh else self._keys.applied
        return keys + self._core.index.loading

    def close(self) -> None:
        """Accept no more requests, and finish those in flight."""
        self._server.stop()
        self._serving.result()

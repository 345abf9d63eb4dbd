"""Make blocking calls of a transactional client: retried, and abandoned if they never return.

Rules, all of them:

1. A call is made on a thread of its own.  Meanwhile acknowledgements are handled, and errors that
   the client reports are logged.
2. A retriable error is retried until the stage is to stop.
3. An error that only an abort can end raises `AbortRequired`.
4. A fatal error raises `Fenced`, and so does a call that has not returned within `LOST_AFTER_S`.
5. Every other error is raised as `translate` names it.
6. Once the stage is to stop, a call is given `CALL_TIMEOUT_S` to return.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Fenced, Unavailable
from erasestream.topics.kafka.backoff import Backoff
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.abandonable_calls import AbandonableExecutor

CALL_TIMEOUT_S = 5.0
"""Longest wait of one call of librdkafka; called again, it continues where it was."""
TRANSACTION_TIMEOUT_S = 30.0
"""The brokers abort a transaction that is open for longer."""
LOST_AFTER_S = TRANSACTION_TIMEOUT_S + CALL_TIMEOUT_S
"""A call that has not returned by then never will (seen with librdkafka 2.16: a commit of
offsets after its broker had died and come back), and its transaction is aborted anyway."""
SLICE_S = 0.5
"""Interval at which a waiting caller looks for errors and whether it is to stop."""
MAX_PAUSE_S = 0.5


class AbortRequired(Exception):
    """The open transaction can only be aborted.

    `source`: the partition whose record could not be written, if that is why.
    """

    def __init__(self, error: KafkaError, source: Partition | None = None) -> None:
        super().__init__(error.name())
        self.error = error
        self.source = source


class TransactionCalls:
    """Makes the calls of one client; `serve` handles its acknowledgements."""

    def __init__(
        self,
        *,
        stopping: threading.Event,
        errors: ClientErrorState,
        serve: Callable[[], object],
    ) -> None:
        self._stopping = stopping
        self._errors = errors
        self._serve = serve
        self._executor = AbandonableExecutor("transaction")

    def make(
        self, call: Callable[[], object], *, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Make a call until it succeeds; run `meanwhile` beside each attempt."""
        backoff = Backoff(stopping=self._stopping, max_pause_s=MAX_PAUSE_S)
        while not self._has_succeeded(call, meanwhile):
            backoff.pause()

    def close(self) -> bool:
        """End the thread; return whether it ended, so that its client can be closed."""
        return self._executor.close(SLICE_S)

    def _has_succeeded(self, call: Callable[[], object], meanwhile: Callable[[], object]) -> bool:
        """Make a call once; False if it is to be retried."""
        try:
            answer = self._executor.submit(call)
            meanwhile()
            self._await_answer(answer)
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.fatal():
                self._errors(error)  # raised only once; the next call may never return
                raise Fenced(error.str()) from exception
            if error.txn_requires_abort():
                raise AbortRequired(error) from exception
            is_retriable = error.retriable() or error.code() == KafkaError._TRANSPORT
            if not is_retriable or self._stopping.is_set():
                raise translate(error, "transaction") from exception
            self._errors(error)
            self._serve()
            return False
        return True

    def _await_answer(self, answer: Future[object]) -> None:
        overdue = Deadline(CALL_TIMEOUT_S, time.monotonic)
        lost = Deadline(LOST_AFTER_S, time.monotonic)
        while True:
            try:
                answer.result(SLICE_S)
            except TimeoutError:
                self._serve()
                self._errors.raise_if_fatal()  # a fenced client may never answer
                if self._stopping.is_set() and overdue.has_passed:
                    raise Unavailable("transaction: no answer") from None
                if lost.has_passed:
                    raise Fenced("a call of the transaction did not return") from None
            else:
                return

"""Read an upload again, by its partition and offset.

There is no reset policy: with one, the offset of a purged upload delivers another customer's photo
(measured).  A deleted record is reported as deleted.

Reads ahead, since the next record asked for is mostly the next in the partition; records read ahead
are bounded in bytes and in number.  Rules, all of them:

* A partition is read from the offset that was sought.  An offset before it, or more than
  `MAX_SKIP` records ahead of what has arrived, is sought again.
* Records before the offset asked for are dropped; beyond `MAX_SKIP_BYTES` of them the offset is
  sought after all.
* A client may have written any offset into a record, and librdkafka believes it.  So reading ahead
  ends at a record that does not continue it by exactly one, and the offset is sought.  Inference
  refuses all records of a batch with such a record (`record_parser.py`), so that none of them is
  asked for; and each of those that continue the read-ahead has an offset of its own batch.
* librdkafka delivers nothing, and reports nothing, from a batch that it cannot parse.  If nothing
  arrives for `READ_AHEAD_TIMEOUT_S` on the way to an offset, the offset is sought.
* A record is deleted if its broker reports exactly its offset as out of range, or if another
  record arrives first once the offset was sought.
* No answer within `ANSWER_TIMEOUT_S` is `Unavailable`; the record may exist or not.  So is one that
  takes longer than the caller waits (`max_wait_s`): it asks again, and others meanwhile.  Asking
  again takes what has arrived, and waits for nothing: slow partitions share no time.
* Headers are parsed only of records that are asked for: a record can have millions.

One thread.
"""

import math
import time

from confluent_kafka import Consumer, KafkaError

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.read_ahead import MAX_HELD_BYTES, PartitionsAhead
from erasestream.topics.kafka.errors import ClientErrorState, translate
from erasestream.topics.kafka.records import Partition, Record

MIN_QUEUED_RECORDS = 2
"""librdkafka fetches no more of a partition while it has as many.  It does not count the bytes of
headers: a client can write 30 MB of them into each record."""
QUEUE_BACKOFF_MS = 10
"""A partition that was full is not fetched for this long, also once it was sought or assigned
again; the default is a second."""
MAX_SKIP_BYTES = 4_000_000
"""After reading so much on the way to an offset, it is sought after all: uploads can be large."""
ANSWER_TIMEOUT_S = 10.0
"""A partition without a record for this long counts as unavailable."""
READ_AHEAD_TIMEOUT_S = 1.0
"""Longest wait for a record before the one that was asked for."""
POLL_S = 0.1


class _Question:
    """An offset that is asked for, by one call or by several in a row."""

    def __init__(self, offset: int, clock: Clock) -> None:
        self.offset = offset
        self.skipped_bytes = 0
        self.is_late = False
        """Whether a call has waited for it in vain."""
        self._clock = clock
        self.arrived()
        self.ask()

    def ask(self) -> None:
        """Note that a caller waits for the record, or will ask again soon."""
        self.wanted = Deadline(ANSWER_TIMEOUT_S, self._clock)

    def arrived(self) -> None:
        """Note that a record of the partition has arrived."""
        self.answer = Deadline(ANSWER_TIMEOUT_S, self._clock)
        self.ahead = Deadline(READ_AHEAD_TIMEOUT_S, self._clock)


class RecordFetcher:
    """Uploads by partition and offset."""

    def __init__(
        self,
        *,
        connection: Connection,
        group: str | None = None,
        max_wait_s: float = math.inf,
        reads_ahead: bool = True,
        clock: Clock = time.monotonic,
    ) -> None:
        """`max_wait_s`: longest wait of one call; `group`: one that the role may read.

        Without `reads_ahead`, records are asked for in no order: nothing is read but those.
        """
        self._clock = clock
        self._reads_ahead = reads_ahead
        self._max_wait_s = max_wait_s
        self.received: int = 0
        """Records from the brokers, including those that were not asked for."""
        self._errors = ClientErrorState()
        self._broker_loss = BrokerLossDetector(connection, self._errors)
        self._ahead = PartitionsAhead()
        self._questions: dict[Partition, _Question] = {}
        self._settings = connection.settings(
            self._errors,
            group_id=group or connection.role,  # never joined: partitions are assigned
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="error",
            # A broker answers one request at a time: that for what comes next delays the others.
            fetch_wait_max_ms=100 if reads_ahead else 5,
            queued_max_messages_kbytes=MAX_HELD_BYTES // 1000,
            queued_min_messages=MIN_QUEUED_RECORDS,
            fetch_queue_backoff_ms=QUEUE_BACKOFF_MS,
            fetch_message_max_bytes=4_000_000 if reads_ahead else 64_000,
        )
        self._consumer = Consumer(self._settings)

    def read(self, at: Partition, offset: int) -> Record | None:
        """Return the record at this offset; None if it is deleted.

        Raises `Unavailable` if the broker does not answer in time: the record may exist or not.
        """
        question = self._ask(at, offset)
        wait = Deadline(self._max_wait_s, self._clock)
        while True:
            ahead = self._ahead.seek(self._consumer, at, offset)
            question.skipped_bytes += ahead.skip_to(offset)
            if ahead.records:
                del self._questions[at]
                record = Record.of(ahead.records.popleft())
                if not self._reads_ahead:
                    self._ahead.drop(self._consumer, at)
                return record
            if ahead.missing is not None:
                self._ahead.drop(self._consumer, at)
                if ahead.missing == offset:
                    del self._questions[at]
                    return None
                # Another offset is out of range, before this one or of an earlier assignment:
                # librdkafka can report it after that ended, and may stop the next one with it.
                continue
            if ahead.sought != offset and (
                question.skipped_bytes > MAX_SKIP_BYTES or question.ahead.has_passed
            ):
                self._ahead.drop(self._consumer, at)
                continue
            poll_s = 0 if question.is_late else wait.slice_s(POLL_S)
            arrived = self._receive(at, poll_s)
            if arrived != at:
                is_over = wait.has_passed or (question.is_late and arrived is None)
                self._raise_if_late(at, question, is_over=is_over)

    def _ask(self, at: Partition, offset: int) -> _Question:
        question = self._questions.get(at)
        if question is None or question.offset != offset:
            question = self._questions[at] = _Question(offset, self._clock)
        question.ask()
        return question

    def _raise_if_late(self, at: Partition, question: _Question, *, is_over: bool) -> None:
        if question.answer.has_passed:
            error = self._errors.explain(f"reading {at} again: no answer")
            del self._questions[at]
            self._give_up(at)
            raise error
        if is_over:
            question.is_late = True
            raise Unavailable(f"reading {at} again: no answer yet")

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _give_up(self, at: Partition) -> None:
        """Drop a partition that does not answer, and replace a lost client."""
        self._ahead.drop(self._consumer, at)
        if self._broker_loss.is_lost(self._consumer):
            self._ahead.drop_all(self._consumer)
            lost, self._consumer = self._consumer, Consumer(self._settings)
            lost.close()

    def _receive(self, asked: Partition, timeout_s: float) -> Partition | None:
        """Take the next message; return the partition if it was a record."""
        message = self._consumer.poll(timeout_s)
        if message is None:
            return None
        at = Partition(str(message.topic()), message.partition() or 0)
        error = message.error()
        if error is None:
            self.received += 1
            if (question := self._questions.get(at)) is not None:
                question.arrived()
            self._ahead.add(self._consumer, at, message)
            self._evict(asked)
            return at
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._ahead.report_missing(at, message.offset())
        elif not isinstance(translate(error), Unavailable):
            raise translate(error, "reading uploads again")
        else:
            self._errors(error)
        return None

    def _evict(self, asked: Partition) -> None:
        wanted = {at for at, each in self._questions.items() if not each.wanted.has_passed}
        self._ahead.evict(self._consumer, asked, wanted)

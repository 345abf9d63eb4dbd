"""Client library for receiving results.

Delivery: every result of the lane is delivered to each group at least once, and once within a
session; a result that is not acknowledged is redelivered after a restart.

* Only committed results are read; a result is a `Cutout`, a `Failure`, or an `Expired`: one whose
  key is dead, because it was not taken in time.
* While the key service is unavailable, sealed results wait, in their order, and the partitions stay
  here; none is skipped.
* Offsets are committed up to the first unacknowledged result of each partition.  Acknowledgements
  beyond it are remembered beside the offset, as far as 4096 bytes hold them: their results are not
  redelivered.
* A record that this release cannot decode is counted and skipped.
* While brokers are unavailable the client retries and logs it once; refusals are raised.
* Every call returns at its timeout, whatever the brokers do, and `close` after `limits.close_s`.
  All can be called from any thread, and from a signal handler of a thread that waits.
* A subscription that is dropped or that the program ends without closing commits and leaves the
  group, with a `ResourceWarning`; the end of the program waits for that as `close` does.
"""

import logging
import time
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from erasestream.schemas.clocks import Clock, WallClock, utc_now
from erasestream.schemas.errors import ClientClosed, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.result_reader import ReceivingLimits, ResultReader
from erasestream.topics.client.subscription_controls import SubscriptionControls
from erasestream.topics.kafka.connection import Cluster

__all__ = ["Delivery", "ReceivingLimits", "ResultSubscription"]

log = logging.getLogger(__name__)

SLICE_S = 1.0
"""Timeout of one poll of an iteration, which goes on until it is stopped."""


class ResultSubscription(SubscriptionControls):
    """The results of one lane, for one group of readers that share them.

        with ResultSubscription(cluster, Lane("shop"), group="listings") as results:
            for delivery in results:
                match delivery.event:
                    case Cutout(reference=reference, data=data):
                        Path(f"cutouts/{reference}.png").write_bytes(data)
                    case Failure(reference=reference, code=code, sentence=sentence):
                        print(reference, code, sentence)
                    case Expired(reference=reference):
                        print(reference, "upload it again")
                delivery.ack()  # from here on it is never delivered again

    The constructor checks with the brokers that this role may read, and raises `Refused`
    (missing_certificate, certificate_refused, not_authorized, missing_topic) or `Unavailable`.
    A new group starts with the oldest result that is not deleted.  Thread-safe; must not cross a
    fork: each call raises `Refused` (used_after_fork) then.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        group: str,
        limits: ReceivingLimits | None = None,
        clock: Clock = time.monotonic,
        now: WallClock = utc_now,
    ) -> None:
        limits = limits or ReceivingLimits()
        self.is_stopped = False
        """Whether `stop` or `close` was called."""
        self.reader = ResultReader(cluster, lane, group=group, limits=limits, clock=clock, now=now)

    def _connected(self) -> ResultReader:
        return self.reader

    def poll(self, timeout_s: float) -> Delivery | None:
        """Return the next result, or None if none came within the timeout.

        Raises `Refused` (not_authorized, missing_topic, closed, used_after_fork).
        """
        return self.reader.poll(timeout_s, lambda: self.is_stopped)

    def __iter__(self) -> Iterator[Delivery]:
        """Yield all results as they come, until `stop` or `close` is called."""
        while not self.is_stopped:
            try:
                delivery = self.poll(SLICE_S)
            except ClientClosed:
                return  # meanwhile, by another thread
            if delivery is not None:
                yield delivery

    def stop(self) -> None:
        """End the iteration and waiting polls.  From any thread, or from a signal handler."""
        self.is_stopped = True
        self.reader.notify()

    def close(self) -> None:
        """Commit everything acknowledged and leave the group.  Idempotent.

        From any thread, or from a signal handler.  After `limits.close_s` it returns, and the
        group is left once the brokers answer.  Raises `Unavailable` if acknowledgements were not
        committed: these results are delivered again.
        """
        self.reader.queue.check_process()
        self.begin_close()
        self.reader.close()

    def begin_close(self) -> None:
        """Begin to leave, without waiting."""
        self.is_stopped = True
        self.reader.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Unavailable as lost:
            if error is None:
                raise
            tell_lost(lost, error)

    def __del__(self) -> None:
        reader: ResultReader | None = getattr(self, "reader", None)  # None: it did not open
        if reader is not None and not reader.is_closing:
            self.begin_close()
            if reader.is_of_this_process:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)


def tell_lost(lost: Unavailable, error: BaseException) -> None:
    """Tell what was not committed, while the error of the block goes on."""
    error.add_note(lost.sentence)
    log.warning("acknowledgements_lost", extra={"reason": lost.detail})

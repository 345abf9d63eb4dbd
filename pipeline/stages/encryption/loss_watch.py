"""Watch for pictures that are lost before they are stored, and report each of them.

* Read, and waiting, when its record was deleted: named by its upload.
* Deleted before it was read: counted.  The first record that a member reads of a partition, or its
  end if it is empty, is compared with what the group has committed; later ones while the alarm is
  raised.
* Read, but unreadable until its life has ended: named by its position, and not held any longer.
* Its key has died: counted for each lane.

A report is in the ledger before the offset is committed.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import partial

from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.pipeline.stages.encryption.held_records import HeldRecords, WaitingRecord
from erasestream.pipeline.stages.encryption.loss_report import LossReport, LostPicture
from erasestream.pipeline.stages.encryption.unread_records import UnreadRecords
from erasestream.pipeline.stages.encryption.unstored_alarm import UnstoredAlarm
from erasestream.topics.kafka.records import Partition


class LossWatch:
    """The alarm and the reports of the sink.  Its methods raise `Unavailable` at the stop only."""

    def __init__(
        self,
        *,
        report: LossReport,
        alarm: UnstoredAlarm,
        unread: UnreadRecords,
        stopping: threading.Event,
    ) -> None:
        self._report = report
        self._alarm = alarm
        self._unread = unread
        self._retry = RetryUntilStopped(stopping)

    @property
    def is_alarmed(self) -> bool:
        """Whether a picture has not been stored for half of its life."""
        return self._alarm.is_raised

    def update(self, held: HeldRecords) -> None:
        """Report unreadable records whose lives have ended; raise the alarm, or end it."""
        for at, offset in held.left_until(self._alarm.ended_ms()):
            self._retry.call(partial(self._report.report_unreadable, at, offset))
            self._alarm.purged += 1
            held.done(at, offset)
        self._alarm.update(held.oldest_ms())

    def read(self, held: HeldRecords, at: Partition, offset: int) -> None:
        """Report records before this offset that were deleted before they could be read."""
        expected = held.expected(at)
        if expected is not None and not self._alarm.is_raised:
            return
        lost = self._retry.call(lambda: self._unread.purged(at, expected=expected, found=offset))
        if lost:
            self._retry.call(lambda: self._report.report_unread(at, lost))
            self._alarm.purged += len(lost)

    def read_to_ends(self, held: HeldRecords, ends: Mapping[Partition, int]) -> None:
        """Note partitions that were read to these ends; all their records may have been deleted.

        Call it once the records before the ends are held.
        """
        for at, end in ends.items():
            self.read(held, at, end)
            held.read_to(at, end)

    def purged(self, records: Sequence[WaitingRecord]) -> None:
        """Report pictures whose records were deleted while they waited."""
        self._retry.call(lambda: self._report.report_purged(records))
        self._alarm.purged += len(records)

    def expired(self, pictures: Sequence[LostPicture]) -> None:
        """Report pictures whose keys have died."""
        self._retry.call(lambda: self._report.report(pictures))

    def metrics(self) -> str:
        """Return the metrics in the text format of Prometheus."""
        return self._alarm.metrics()

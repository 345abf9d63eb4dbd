"""When nothing can open an image any more: the header `Retention-Deadline`.

The keys of an upload's hour are destroyed by then, on every machine and by every clock.  An image
that its owner's opt-in keeps has no such time: it is kept until that is revoked, or it is deleted.
Pure.
"""

from datetime import datetime, timedelta
from email.utils import format_datetime

from erasestream.topics.catalog.epochs import EpochTimes

RETENTION_DEADLINE = "Retention-Deadline"
OPT_IN = "opt-in"
"""In place of a time."""


class RetentionDeadlines:
    """The deadlines of one lane; `times` is None if its images are not sealed."""

    def __init__(self, times: EpochTimes | None, *, promise: timedelta) -> None:
        self._times = times
        self._promise = promise

    def of(self, uploaded_at: datetime) -> datetime:
        """Return when nothing can open an image that was uploaded then."""
        latest = uploaded_at + self._promise
        if (times := self._times) is None:
            return latest
        error = timedelta(seconds=times.clock_error_s)
        # By its producer's clock the epoch may have been the next one.
        dies = times.dies(times.number(uploaded_at + error))
        return min(latest, dies + error + timedelta(seconds=times.destruction_s))

    def header(self, uploaded_at: datetime, *, is_retained: bool) -> str:
        """Return the value of the header, rounded up to a second."""
        if is_retained:
            return OPT_IN
        return format_datetime(_whole_seconds(self.of(uploaded_at)), usegmt=True)


def _whole_seconds(moment: datetime) -> datetime:
    return (moment + timedelta(seconds=1, microseconds=-1)).replace(microsecond=0)

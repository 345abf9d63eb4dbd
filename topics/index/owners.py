"""When each account's uploads of the last day were made, of those that have a result.

For the account page: a count, and when each is gone.  An account is its `owner_key`, an upload
takes eight bytes.  Written by one thread, read by any.
"""

from array import array
from datetime import datetime, timedelta

from erasestream.schemas.events.base import utc

LIFE = timedelta(hours=24)


class RecentUploads:
    """Times of uploads by owner."""

    def __init__(self) -> None:
        self._times: dict[bytes, array[int]] = {}

    def note(self, owner: bytes, uploaded_ms: int) -> None:
        """Note an upload."""
        times = self._times.get(owner)
        if times is None:
            times = self._times[owner] = array("q")
        times.append(uploaded_ms)

    def of(self, owner: bytes, now: datetime) -> list[datetime]:
        """Return when the uploads of the last 24 hours were made, newest first."""
        oldest_ms = _ms(now - LIFE)
        times = list(self._times.get(owner, ()))
        return [utc(each) for each in sorted(times, reverse=True) if each > oldest_ms]

    def drop_old(self, now: datetime) -> None:
        """Drop what is older."""
        oldest_ms = _ms(now - LIFE)
        for owner, times in list(self._times.items()):
            if min(times) > oldest_ms:
                continue
            if left := array("q", (each for each in times if each > oldest_ms)):
                self._times[owner] = left
            else:
                del self._times[owner]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

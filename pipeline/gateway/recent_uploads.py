"""When each account's uploads of the last day were made, as far as this gateway has seen results.

For the account page: a count, and when each is gone.  No ids, no images.  Pure; for one event loop.
"""

from collections import deque
from datetime import datetime, timedelta

from erasestream.schemas.ids import AccountId

LIFE = timedelta(hours=24)
MAX_UPLOADS = 500_000
"""Uploads of all accounts that are remembered, about 100 bytes each; the oldest go first."""


class RecentUploads:
    """Times of uploads by account."""

    def __init__(self, most: int = MAX_UPLOADS) -> None:
        self._most = most
        self._order: deque[AccountId] = deque()
        self._times: dict[AccountId, deque[datetime]] = {}

    def note(self, account: AccountId, uploaded_at: datetime) -> None:
        """Note an upload whose result was seen."""
        self._order.append(account)
        self._times.setdefault(account, deque()).append(uploaded_at)
        if len(self._order) > self._most:
            oldest = self._order.popleft()
            self._times[oldest].popleft()
            if not self._times[oldest]:
                del self._times[oldest]

    def of(self, account: AccountId, now: datetime) -> list[datetime]:
        """Return when the account's uploads of the last 24 hours were made, newest first."""
        times = self._times.get(account, ())
        return sorted((each for each in times if each > now - LIFE), reverse=True)

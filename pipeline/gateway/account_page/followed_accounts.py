"""All that the topics tell of the accounts that are looked at: erasures, receipts, what is held.

Each account is read on from where the last look ended, by one thread at a time; accounts that were
not looked at for long are forgotten, and read from the beginning by the next look.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple

from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.consent.account_erasures import AccountErasures
from erasestream.topics.consent.account_receipts import AccountReceipts
from erasestream.topics.consent.held_uploads import HeldUploads
from erasestream.topics.consent.reader import ConsentReader

MAX_FOLLOWED = 256
"""Accounts that are remembered."""


class Followed(NamedTuple):
    """One account."""

    erasures: AccountErasures
    held: HeldUploads
    receipts: AccountReceipts


class FollowedAccounts:
    """The accounts of one lane.  Thread-safe."""

    def __init__(self, reader: ConsentReader, lane: Lane, *, partitions: Mapping[str, int]) -> None:
        """`partitions`: the partition counts of `held.L` and `receipts.L`."""
        self._reader = reader
        self._lane = lane
        self._partitions = {**reader.partitions, **partitions}
        self._lock = Lock()
        self._accounts = OrderedDict[AccountId, tuple[Lock, Followed]]()

    @contextmanager
    def of(self, account: AccountId) -> Iterator[Followed]:
        """Lend an account to this thread alone, for a `with` block."""
        with self._lock:
            found = self._accounts.pop(account, None) or (Lock(), self._open(account))
            self._accounts[account] = found
            if len(self._accounts) > MAX_FOLLOWED:
                self._accounts.popitem(last=False)
        lock, followed = found
        with lock:
            yield followed

    def _open(self, account: AccountId) -> Followed:
        where = self._reader, self._lane, account
        return Followed(
            AccountErasures(*where),
            HeldUploads(*where, self._partitions),
            AccountReceipts(*where, self._partitions),
        )

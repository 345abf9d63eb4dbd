"""Results that were delivered in this session, to drop those that come again.  Pure."""

import hashlib
from collections import OrderedDict
from typing import NamedTuple, Self

from erasestream.schemas.ids import AccountId, UploadId
from erasestream.topics.kafka.records import Partition


class ResultKey(bytes):
    """Key of a result: sixteen bytes instead of two strings, and no account id in memory."""

    __slots__ = ()

    @classmethod
    def of(cls, account: AccountId, upload_id: UploadId) -> Self:
        """Return the key of the results of this upload of this account."""
        text = f"{account}\0{upload_id}".encode()
        return cls(hashlib.blake2b(text, digest_size=16).digest())


class DeliveredRecord(NamedTuple):
    """The record that was delivered for a key."""

    at: Partition
    offset: int
    is_acknowledged: bool = False


class DeliveredResults:
    """The record of each key.  `most` are remembered, about 300 bytes each; the oldest go first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._records: OrderedDict[ResultKey, DeliveredRecord] = OrderedDict()

    def get(self, key: ResultKey) -> DeliveredRecord | None:
        """Return the record, unless it is forgotten."""
        return self._records.get(key)

    def add(self, key: ResultKey, record: DeliveredRecord) -> None:
        """Remember a record that is delivered."""
        self._records[key] = record
        if len(self._records) > self._most:
            self._records.popitem(last=False)

    def acknowledge(self, key: ResultKey) -> None:
        """Note that the result of this key is acknowledged, whichever record it was."""
        record = self._records.get(key)
        if record is not None:
            self._records[key] = record._replace(is_acknowledged=True)

    def forget_from(self, at: Partition, offset: int) -> None:
        """Forget the records of a partition from this offset on."""
        for key, record in list(self._records.items()):
            if record.at == at and record.offset >= offset:
                del self._records[key]

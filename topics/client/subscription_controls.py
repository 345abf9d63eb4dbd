"""Counters, pause and seek of both subscriptions; none of them waits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from erasestream.schemas.errors import Code
from erasestream.topics.client.result_reader import ResultReader


class SubscriptionControls(ABC):
    """Counters of a subscription, and where it reads."""

    @abstractmethod
    def _connected(self) -> ResultReader:
        """Return the reader.  Raises `Refused` (closed) if there is none."""

    @property
    def skipped(self) -> Mapping[Code, int]:
        """Number of skipped records that this release cannot decode, by code."""
        return dict(self._connected().queue.skipped)

    @property
    def duplicates(self) -> int:
        """Number of results that came again within this session and were not delivered again."""
        return self._connected().queue.duplicates

    @property
    def expired(self) -> int:
        """Number of results delivered as `Expired`: their keys were dead."""
        return self._connected().queue.expired

    @property
    def rejected(self) -> Mapping[str, int]:
        """Number of rejected results, by reason: 100 reasons, and all others as `other`."""
        return dict(self._connected().queue.rejected)

    def pause(self) -> None:
        """Deliver nothing until `resume`; the partitions stay here, however long that takes."""
        self._connected().pause(is_paused=True)

    def resume(self) -> None:
        """Deliver again, from where `pause` was called."""
        self._connected().pause(is_paused=False)

    def seek(self, partition: int, offset: int) -> None:
        """Deliver a partition from this offset on, also what is acknowledged.

        All before the offset needs no acknowledgement any more.  If the partition has no such
        offset, it is delivered from its oldest result on.  `Delivery` has partition and offset.
        Raises `Refused` if the partition is not assigned to this subscription, as none is before
        the first `poll`.
        """
        self._connected().seek(partition, offset)

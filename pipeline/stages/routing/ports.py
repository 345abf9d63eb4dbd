"""The interfaces that the router needs: decisions, uploads, and offsets of the brokers."""

from collections.abc import Collection, Iterable
from typing import Protocol

from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.consent.view import ActiveGrant
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Partition, Record


class FreshConsent(Protocol):
    """The owners' decisions, and how fresh they are (`ConsentView`)."""

    def marks(self, lanes: Collection[Lane], *, timeout_s: float) -> dict[Lane, Mark]:
        """Return the current end offsets of the decisions of each lane.

        Lanes whose leaders do not answer in time are left out.
        """

    def read(self) -> None:
        """Apply the decisions that have arrived, without waiting."""

    def applied(self, lane: Lane) -> Mark:
        """Return the applied offsets of a lane's decisions."""

    def reread(self, lane: Lane) -> None:
        """Forget a lane's decisions, and read them again from the beginning."""

    def active_grant(self, lane: Lane, account: AccountId) -> ActiveGrant | None:
        """Return the account's grant in force, by the decisions that are applied."""

    def mark_of(self, lane: Lane, account: AccountId) -> str:
        """Return how far the account's partition is applied, as `<partition>/<offset>`."""


class RecordSource(Protocol):
    """Uploads by their position (`RecordFetcher`)."""

    def read(self, at: Partition, offset: int) -> Record | None:
        """Return the record at this offset; None if it was deleted.  Raises `Unavailable`."""


class BrokerQueries(Protocol):
    """Topic ids and offsets as the brokers know them (`OffsetQueries`)."""

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """Return the current id of each topic."""

    def log_start(self, at: Partition) -> int:
        """Return the first offset of a partition that is not deleted."""

    def log_end(self, at: Partition) -> int:
        """Return the offset after the last record of a partition, committed or not."""

    def first_after(self, at: Partition, moment_ms: int) -> int:
        """Return the offset of the first record appended after this; the log end if none was."""

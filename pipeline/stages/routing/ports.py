"""What the router asks others for: decisions, uploads, and what only the brokers know."""

from collections.abc import Iterable
from typing import Protocol

from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.consent.view import ActiveGrant
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Partition, Record


class FreshConsent(Protocol):
    """The owners' decisions, and how fresh they are (`ConsentView`)."""

    def mark(self, *, timeout_s: float | None = None) -> Mark:
        """How far the decisions reach now.  Raises `Unavailable`, after the timeout if given."""

    def read(self) -> Mark:
        """Apply what is there, without waiting; what is applied then."""

    def catch_up(self, mark: Mark, *, deadline_s: float) -> None:
        """Apply everything below the mark.  Raises `Unavailable` after the deadline."""

    def active_grant(self, lane: Lane, account: AccountId) -> ActiveGrant | None:
        """The grant in force of this account, as far as is applied."""

    def mark_of(self, lane: Lane, account: AccountId) -> str:
        """How much of the account's partition is applied."""


class RecordSource(Protocol):
    """Uploads by their place (`Originals`)."""

    def read(self, at: Partition, offset: int) -> Record | None:
        """The record at this place; None if it is gone.  Raises `Unavailable`."""


class BrokerQueries(Protocol):
    """What only the brokers know (`OffsetQueries`)."""

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """The id that each topic has now."""

    def log_start(self, at: Partition) -> int:
        """The first offset of a partition that is still there."""

    def log_end(self, at: Partition) -> int:
        """The offset behind the last record of a partition, committed or not."""

    def first_after(self, at: Partition, moment_ms: int) -> int:
        """The offset of the first record appended after this; of the next one if there is none."""

"""A result that was delivered, and how its reader settles it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from erasestream.schemas.events.images import Cutout, Failure
from erasestream.topics.client.expired import Expired


class Settlement(Protocol):
    """Settles a delivery."""

    def acknowledge(self) -> object:
        """Never deliver it again."""

    def return_after(self, delay_s: float) -> None:
        """Deliver it again after this time."""

    def reject(self, reason: str) -> None:
        """Never deliver it again, and count the reason."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One result.  `appended_at` is when the broker appended it, by the broker's clock.

    Settle it with one of `ack`, `nack` and `reject`, from any thread; none of them blocks.  The
    first `ack` or `reject` counts.  Each raises `Refused` (used_after_fork) in another process.
    """

    event: Cutout | Failure | Expired
    partition: int
    offset: int
    appended_at: datetime
    _settlement: Settlement = field(repr=False, compare=False)

    def ack(self) -> None:
        """Acknowledge this result: it is not delivered to this group again.  Idempotent."""
        self._settlement.acknowledge()

    def nack(self, delay_s: float = 0.0) -> None:
        """Deliver this result again, now or after a delay, to this subscription.

        It is fetched again, so it takes no memory meanwhile, and it comes after the results that
        were delivered since.  After a restart it is delivered without the rest of the delay.
        Raises `Refused` if the delay is not finite.
        """
        self._settlement.return_after(delay_s)

    def reject(self, reason: str) -> None:
        """Give this result up: as `ack`, and counted in `rejected` under this reason.

        No copy is kept anywhere.  Raises `Refused` if there is no reason.
        """
        self._settlement.reject(reason)

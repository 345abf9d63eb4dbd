"""Adapters of the gateway, and the services that they share."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from erasestream.pipeline.gateway.accepted_marks import AcceptedMarks, Mark
from erasestream.pipeline.gateway.callers import Callers
from erasestream.pipeline.gateway.core import ImageCore
from erasestream.pipeline.gateway.egress.fetchers import Fetchers
from erasestream.pipeline.gateway.memory_budget import MemoryBudget
from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.rate_limits import Allowance, RateLimits
from erasestream.pipeline.gateway.retention_deadline import RetentionDeadlines
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.events.credentials import CredentialSet
from erasestream.schemas.ids import AccountId, UploadId


@dataclass(frozen=True, kw_only=True)
class Services:
    """Services of all adapters."""

    core: ImageCore
    callers: Callers
    memory: MemoryBudget
    limits: RateLimits
    reads: RateLimits
    """Of requests about images by their ids."""
    deadlines: RetentionDeadlines
    mark: Mark
    """Tells every gateway of an image: its state, and whether it may be retained."""
    accepted: AcceptedMarks
    erase: Callable[[AccountId, UploadId, str], Awaitable[None]]
    """Asks to erase all that is retained of an upload, by the owner's key of this id."""
    now: WallClock
    has_opted_in: Callable[[AccountId], Awaitable[bool]]
    """Reads the decision at its freshness mark."""
    is_ready: Callable[[], bool]
    plan: Mapping[str, str]
    fetchers: Fetchers | None = None
    """None: images are not fetched from URLs."""

    @contextmanager
    def admit(self, request: Request, caller: CredentialSet) -> Iterator[Allowance]:
        """Count an image of this caller until the block ends; the answer tells what is left.

        Raises `Problem` (too_many_at_once, rate_limited, overloaded, unavailable).
        """
        self.core.check_room()
        with self.limits.admit(caller.key_id) as allowance:
            try:
                yield allowance
            finally:
                request.state.headers = allowance.headers

    @contextmanager
    def admit_read(self, caller: CredentialSet) -> Iterator[None]:
        """Count a request of this caller about an image, until the block ends.

        Raises `Problem` (too_many_requests).
        """
        with self.reads.admit(caller.key_id) as allowance:
            allowance.charge(0)
            yield


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One contract: its routes, and the shape of its errors for all paths below the prefix."""

    prefix: str
    routes: Sequence[BaseRoute]
    render: Callable[[Problem, str], Response]
    """Makes the answer of a problem; the text is the request's id."""

"""Limits of the page: requests of each account, and wrong keys from each address.

A page reads topics up to their ends, so each costs the brokers something.  A valid key always signs
in, however many wrong ones come from the same address.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from erasestream.pipeline.gateway.accepting import network_of
from erasestream.pipeline.gateway.account_page.door import Door
from erasestream.pipeline.gateway.account_page.sign_in import Owner
from erasestream.pipeline.gateway.problems import HttpCode, Problem
from erasestream.pipeline.gateway.rate_limits import LimitNames, RateLimits
from erasestream.schemas.clocks import Clock, WallClock

REQUESTS_PER_MINUTE = 240
"""Of one account; an open page that shows an erasure sends 40."""
REQUESTS_AT_ONCE = 4
WRONG_KEYS_PER_MINUTE = 20
"""From one address."""

Handler = Callable[[Request], Awaitable[Response]]


class PageLimits:
    """The limits at one gateway.  For one event loop."""

    def __init__(self, door: Door, *, clock: Clock, now: WallClock) -> None:
        def limits(unit: str, per_minute: int) -> RateLimits:
            codes = HttpCode.TOO_MANY_REQUESTS, HttpCode.TOO_MANY_REQUESTS
            return RateLimits(
                per_minute=per_minute,
                at_once=REQUESTS_AT_ONCE,
                clock=clock,
                now=now,
                names=LimitNames(unit, *codes),
            )

        self._door = door
        self._requests = limits("requests", REQUESTS_PER_MINUTE)
        self._wrong_keys = limits("wrong-keys", WRONG_KEYS_PER_MINUTE)

    def of_owner(self, handler: Handler) -> Handler:
        """Return the handler for a signed-in owner's requests, as many as may be.

        It raises `Problem` (too_many_requests) for more, and session_ended.
        """

        async def handle(request: Request) -> Response:
            account = self._door.visitor(request).owner.account
            with self._requests.admit(account) as allowance:
                allowance.charge(0)
                return await handler(request)

        return handle

    def identify(self, request: Request, presented: str) -> Owner:
        """Return the owner who signs in.

        Raises `Problem`: too_many_requests after too many wrong keys from this address.
        """
        try:
            return self._door.sign_in.identify(presented)
        except Problem as error:
            if error.code == HttpCode.INVALID_KEY and request.client is not None:
                self._wrong_keys.take(network_of(request.client.host), 1)
            raise

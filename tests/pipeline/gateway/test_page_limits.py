"""Limits of the account page: requests of an account, wrong keys from an address."""

import asyncio
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from starlette.requests import Request
from starlette.responses import Response

from erasestream.pipeline.gateway.account_page.door import Door
from erasestream.pipeline.gateway.account_page.page_limits import (
    REQUESTS_AT_ONCE,
    REQUESTS_PER_MINUTE,
    WRONG_KEYS_PER_MINUTE,
    PageLimits,
)
from erasestream.pipeline.gateway.account_page.session import COOKIE, Sessions
from erasestream.pipeline.gateway.account_page.sign_in import Owner
from erasestream.pipeline.gateway.callers import Callers
from erasestream.pipeline.gateway.memory_budget import MemoryBudget
from erasestream.pipeline.gateway.problems import HttpCode, Problem, problem
from erasestream.schemas.events.credentials import CredentialSet
from erasestream.schemas.ids import AccountId
from tests.pipeline.gateway.test_callers import KEYS, Keys

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class SignIn:
    """Owners by the names of their accounts."""

    def identify(self, presented: str) -> Owner:
        if presented not in KEYS:
            raise problem(HTTPStatus.UNAUTHORIZED, HttpCode.INVALID_KEY)
        return Owner(AccountId(presented), "key")

    def credential(self, _owner: Owner) -> CredentialSet:
        return KEYS["alice-owner"].state


SESSIONS = Sessions(b"k" * 32, lifetime=timedelta(minutes=30), now=lambda: NOW, random=bytes)


@pytest.fixture
def limits() -> PageLimits:
    callers = Callers(Keys(), now=lambda: NOW, note_use=lambda *_: None)
    door = Door(sign_in=SignIn(), sessions=SESSIONS, callers=callers, memory=MemoryBudget(10**6))
    return PageLimits(door, clock=lambda: 1000.0, now=lambda: NOW)


def request(account: str = "alice", address: str = "192.0.2.1") -> Request:
    cookie = SESSIONS.begin(Owner(AccountId(account), "key")).partition(";")[0]
    assert cookie.startswith(COOKIE)
    headers = [(b"cookie", cookie.encode())]
    return Request({"type": "http", "headers": headers, "client": (address, 1)})


async def at_once(limits: PageLimits, accounts: list[str]) -> list[str]:
    """Send requests that wait for each other; return what became of them, in their order."""
    go_on = asyncio.Event()

    async def handle(_: Request) -> Response:
        await go_on.wait()
        return Response()

    handler = limits.of_owner(handle)
    tasks = [asyncio.ensure_future(handler(request(each))) for each in accounts]
    await asyncio.sleep(0)
    go_on.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    return ["ok" if isinstance(each, Response) else str(each) for each in done]


def test_one_account_cannot_keep_others_waiting(limits: PageLimits) -> None:
    accounts = ["alice"] * (REQUESTS_AT_ONCE + 2) + ["bob"]
    expected = ["ok"] * REQUESTS_AT_ONCE + ["too_many_requests"] * 2 + ["ok"]
    assert asyncio.run(at_once(limits, accounts)) == expected


def test_an_account_has_so_many_requests_in_a_minute(limits: PageLimits) -> None:
    for _ in range(REQUESTS_PER_MINUTE):
        assert asyncio.run(at_once(limits, ["alice"])) == ["ok"]
    assert asyncio.run(at_once(limits, ["alice", "bob"])) == ["too_many_requests", "ok"]


def test_a_request_without_a_session_is_not_counted(limits: PageLimits) -> None:
    async def handle(_: Request) -> Response:
        raise AssertionError

    stranger = Request({"type": "http", "headers": [], "client": ("192.0.2.1", 1)})
    with pytest.raises(Problem, match="session_ended"):
        asyncio.run(limits.of_owner(handle)(stranger))  # type: ignore[arg-type]


def test_wrong_keys_are_limited_and_right_ones_are_not(limits: PageLimits) -> None:
    def refusal(address: str) -> Problem:
        with pytest.raises(Problem) as caught:
            limits.identify(request(address=address), "wrong")
        return caught.value

    for _ in range(WRONG_KEYS_PER_MINUTE):
        assert refusal("192.0.2.1").code == "invalid_api_key"
    found = refusal("192.0.2.1")
    assert (found.status, found.code) == (429, "too_many_requests")
    assert int(found.headers["Retry-After"]) > 0
    assert refusal("192.0.2.2").code == "invalid_api_key"
    assert limits.identify(request(), "alice-owner").account == "alice-owner"

"""Who may do what: a row for each route of the gateway, and a request by everyone to each.

A new route fails the first test until it has a row.
"""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from erasestream.pipeline.gateway.account_page import routes as account_page
from erasestream.pipeline.gateway.account_page.door import CSRF_HEADER, Door
from erasestream.pipeline.gateway.account_page.page_limits import PageLimits
from erasestream.pipeline.gateway.account_page.routes import AccountPageParts
from erasestream.pipeline.gateway.account_page.session import COOKIE, Sessions
from erasestream.pipeline.gateway.account_page.sign_in import Owner
from erasestream.pipeline.gateway.account_page.try_it import try_it
from erasestream.pipeline.gateway.adapter import Services
from erasestream.pipeline.gateway.callers import Callers
from erasestream.pipeline.gateway.memory_budget import MemoryBudget
from erasestream.pipeline.gateway.problems import HttpCode, Problem, problem
from erasestream.pipeline.gateway.rate_limits import REQUESTS, RateLimits
from erasestream.pipeline.gateway.reference import routes as reference
from erasestream.pipeline.gateway.reference.document import document
from erasestream.pipeline.gateway.routes import images, removebg, v2
from erasestream.schemas.events.credentials import CredentialSet
from erasestream.schemas.ids import AccountId, Lane
from tests.pipeline.gateway.test_callers import KEYS, Keys

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARAMETERS = {"id": "an-image", "decision": "1", "key_id": "1", "name": "page.css"}
ACCOUNTS = "alice", "bob"
REACHED = "reached"

WHO = ("nobody", "stranger", "image key", "owner's key", "session", "session without token")
OPEN = dict.fromkeys(WHO, REACHED)
CLOSED = dict.fromkeys(WHO, "forbidden")
IMAGES = dict.fromkeys(WHO, "missing_api_key") | {
    "stranger": "invalid_api_key",
    "image key": REACHED,
    "owner's key": REACHED,
}
OWNER = IMAGES | {"image key": "forbidden"}
PAGE = {
    "nobody": "session_ended",
    "stranger": "invalid_api_key",
    "image key": "forbidden",
    "owner's key": "session_ended",
    "session": REACHED,
    "session without token": REACHED,
}
FORM = PAGE | {"session without token": "form_refused"}
ENTRANCE = dict.fromkeys(WHO, "invalid_api_key")
"""For the key in the form, which none of these requests has."""

TABLE = {
    ("POST", "/v2"): IMAGES,
    ("GET", "/v2/account"): IMAGES,
    ("GET", "/v2/health"): OPEN,
    ("POST", "/v2/images"): IMAGES,
    ("GET", "/v2/images/{id}"): IMAGES,
    ("DELETE", "/v2/images/{id}"): OWNER,
    ("POST", "/v1.0/removebg"): IMAGES,
    ("GET", "/v1.0/account"): IMAGES,
    ("POST", "/v1.0/improve"): CLOSED,
    ("GET", "/openapi.json"): OPEN,
    ("GET", "/api"): OPEN,
    ("GET", "/account"): PAGE,
    ("GET", "/account/assets/{name}"): OPEN,
    ("POST", "/account/sign-in"): ENTRANCE,
    ("POST", "/account/sign-out"): FORM,
    ("GET", "/account/status"): PAGE,
    ("GET", "/account/opt-in"): PAGE,
    ("POST", "/account/opt-in"): FORM,
    ("POST", "/account/opt-out"): FORM,
    ("GET", "/account/close"): PAGE,
    ("POST", "/account/close"): FORM,
    ("GET", "/account/receipts/{decision}.jsonld"): PAGE,
    ("GET", "/account/receipts/{id}.tlog-proof"): PAGE,
    ("POST", "/account/keys"): FORM,
    ("POST", "/account/keys/{key_id}/revoke"): FORM,
    ("POST", "/account/try"): FORM,
}


class Reached(Exception):
    """A handler has let a request in, and calls something with these arguments."""

    def __init__(self, given: list[object]) -> None:
        super().__init__()
        self.given = given


class Beyond:
    """All that is behind the door."""

    def __getattr__(self, _name: str) -> "Beyond":
        return self

    def __call__(self, *given: object, **named: object) -> object:
        raise Reached([*given, *named.values()])


SESSIONS = Sessions(b"k" * 32, lifetime=timedelta(minutes=30), now=lambda: NOW, random=bytes)


class SignIn:
    """Owners come in as long as their accounts have a key."""

    def identify(self, presented: str) -> Owner:
        assert not presented
        raise problem(HTTPStatus.UNAUTHORIZED, HttpCode.INVALID_KEY)

    def credential(self, owner: Owner) -> CredentialSet:
        return KEYS[f"{owner.account}-owner"].state


def routes(*, reads_per_minute: int = 100) -> dict[tuple[str, str], Route]:
    """Return all routes of a gateway, by method and path."""
    beyond: Any = Beyond()
    callers = Callers(Keys(), now=lambda: NOW, note_use=lambda *_: None)
    memory = MemoryBudget(10**6)
    reads = RateLimits(
        per_minute=reads_per_minute, at_once=1, clock=lambda: 0.0, now=lambda: NOW, names=REQUESTS
    )
    own = {
        "callers": callers,
        "memory": memory,
        "reads": reads,
        "now": lambda: NOW,
        "is_ready": lambda: True,
        "plan": {},
    }
    services = Services(**dict.fromkeys((each.name for each in fields(Services)), beyond) | own)
    door = Door(sign_in=SignIn(), sessions=SESSIONS, callers=callers, memory=memory)
    parts = AccountPageParts(
        lane=Lane("web"),
        service="Service",
        door=door,
        limits=PageLimits(door, clock=lambda: 0.0, now=lambda: NOW),
        accounts=beyond,
        keys=beyond,
        uploads_of=beyond,
        pages=beyond,
        now=lambda: NOW,
    )
    primary = v2.adapter(services)
    adapters = (
        primary,
        images.adapter(services),
        removebg.adapter(services),
        account_page.adapter(parts, try_it(services, door)),
        reference.adapter("Service", primary),
    )
    return {
        (method, route.path.rstrip("/")): route
        for adapter in adapters
        for route in adapter.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }


ROUTES = routes()


def request(path: str, account: str, who: str) -> Request:
    """Return a request of this path by them, with a form that is as good as any."""
    keys = {"stranger": "eve", "image key": f"{account}-image", "owner's key": f"{account}-owner"}
    cookie = SESSIONS.begin(Owner(AccountId(account), "key")).partition(";")[0]
    headers = {"content-type": "application/x-www-form-urlencoded"}
    form = {"sure": "yes"}
    if who in keys:
        headers["x-api-key"] = keys[who]
    if who.startswith("session"):
        headers["cookie"] = cookie
    if who == "session":
        session = SESSIONS.verify(cookie.removeprefix(f"{COOKIE}="))
        assert session is not None
        headers[CSRF_HEADER] = form["csrf"] = session.csrf

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": urlencode(form).encode(), "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "path_params": PARAMETERS,
        "state": {"request_id": "1"},
    }
    return Request(scope, receive)


async def outcome(route: Route, account: str, who: str) -> tuple[str, list[object]]:
    """Return the code of a refusal, or that a request reached something with these arguments."""
    try:
        answer = await route.endpoint(request(route.path, account, who))
    except Problem as error:
        return str(error.code), []
    except Reached as reached:
        return REACHED, reached.given
    assert isinstance(answer, Response)
    if answer.status_code in (401, 403):
        return json.loads(bytes(answer.body))["error"]["code"], []
    return REACHED, []


def test_the_table_has_a_row_for_each_route_and_no_other() -> None:
    assert TABLE.keys() == ROUTES.keys()


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize(("method", "path"), TABLE)
async def test_everyone_may_do_what_the_table_allows(method: str, path: str, account: str) -> None:
    """And what a path names is looked for in their own account."""
    route, row = ROUTES[method, path], TABLE[method, path]
    for who, expected in row.items():
        code, given = await outcome(route, account, who)
        assert code == expected, who
        if route.param_convertors and code == REACHED and row is not OPEN:
            assert given[0] == account, who


async def test_images_are_read_and_deleted_within_limits_of_their_own() -> None:
    """Of each key; what is sent with the same key has other limits."""
    for method, who in (("GET", "image key"), ("DELETE", "owner's key")):
        found = routes(reads_per_minute=1)
        route = found[method, "/v2/images/{id}"]
        codes = [(await outcome(route, "alice", who))[0] for _ in range(2)]
        assert codes == [REACHED, "too_many_requests"]
        assert (await outcome(route, "bob", who))[0] == REACHED
        assert (await outcome(found["POST", "/v2/images"], "alice", who))[0] == REACHED


def test_the_reference_agrees_with_the_table() -> None:
    """A key is asked for where the table wants one, and refused where it is not an owner's."""
    paths: Any = document("Service", reference.CONTRACTS)["paths"]
    for path, methods in paths.items():
        for method, described in methods.items():
            row = TABLE[method.upper(), path]
            assert bool(described["security"]) is (row in (IMAGES, OWNER)), path
            codes = json.dumps(described["responses"])
            assert ('"forbidden"' in codes) is (row in (OWNER, CLOSED)), path

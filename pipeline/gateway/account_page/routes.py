"""`/account`: the routes of the page.

Every page works without its script, which adds progress without reloading, and Try it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from erasestream.pipeline.gateway.account_page.consent_receipt import MEDIA_TYPE, consent_receipt
from erasestream.pipeline.gateway.account_page.door import (
    Door,
    Visitor,
    check_origin,
)
from erasestream.pipeline.gateway.account_page.erasure_steps import is_finished, steps_of
from erasestream.pipeline.gateway.account_page.notice import CURRENT_NOTICE
from erasestream.pipeline.gateway.account_page.owner_account import OwnerAccounts
from erasestream.pipeline.gateway.account_page.owner_keys import OwnerKeys
from erasestream.pipeline.gateway.account_page.page_limits import Handler, PageLimits
from erasestream.pipeline.gateway.account_page.pages import Pages
from erasestream.pipeline.gateway.account_page.view import overview
from erasestream.pipeline.gateway.adapter import Adapter
from erasestream.pipeline.gateway.problems import HttpCode, Problem, invalid_option, problem
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.events.credentials import MAX_LABEL, CredentialKind
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.credentials.token import Token

PREFIX = "/account"
PROOF = ".tlog-proof"
"""End of the names of receipts from the transparency log (C2SP tlog-proof)."""
TEXT = "text/plain"
MAX_DAYS = 3650
_DAYS = re.compile("[1-9][0-9]{0,3}")
_CONFIRMED = "yes"
_AT_SIGN_IN: Mapping[str, str] = {
    HttpCode.SESSION_ENDED: "",
    HttpCode.FORBIDDEN: "This key sends images: sign in with an owner's key.",
}


@dataclass(frozen=True, kw_only=True)
class AccountPageParts:
    """Parts of the page."""

    lane: Lane
    service: str
    """The name of the service, as its customers know it."""
    door: Door
    limits: PageLimits
    accounts: OwnerAccounts
    keys: OwnerKeys
    uploads_of: Callable[[AccountId], Sequence[datetime]]
    """When the uploads of the last day were made."""
    pages: Pages
    now: WallClock


def adapter(parts: AccountPageParts, try_it: Handler) -> Adapter:
    """Return the routes of the page."""
    entrance, consent, keys = _Entrance(parts), _Consent(parts), _Keys(parts)
    owner = parts.limits.of_owner
    return Adapter(
        prefix=PREFIX,
        render=entrance.render,
        routes=(
            Route(PREFIX, owner(consent.overview), methods=["GET"]),
            Route(f"{PREFIX}/assets/{{name}}", entrance.asset, methods=["GET"]),
            Route(f"{PREFIX}/sign-in", entrance.sign_in, methods=["POST"]),
            Route(f"{PREFIX}/sign-out", owner(entrance.sign_out), methods=["POST"]),
            Route(f"{PREFIX}/status", owner(consent.status), methods=["GET"]),
            Route(f"{PREFIX}/opt-in", owner(consent.ask), methods=["GET"]),
            Route(f"{PREFIX}/opt-in", owner(consent.opt_in), methods=["POST"]),
            Route(f"{PREFIX}/opt-out", owner(consent.opt_out), methods=["POST"]),
            Route(f"{PREFIX}/close", owner(consent.ask_to_close), methods=["GET"]),
            Route(f"{PREFIX}/close", owner(consent.close), methods=["POST"]),
            Route(
                f"{PREFIX}/receipts/{{decision}}.jsonld", owner(consent.receipt), methods=["GET"]
            ),
            Route(f"{PREFIX}/receipts/{{id}}{PROOF}", owner(consent.proof), methods=["GET"]),
            Route(f"{PREFIX}/keys", owner(keys.create), methods=["POST"]),
            Route(f"{PREFIX}/keys/{{key_id}}/revoke", owner(keys.revoke), methods=["POST"]),
            Route(f"{PREFIX}/try", try_it, methods=["POST"]),
        ),
    )


def _to_page() -> Response:
    return RedirectResponse(PREFIX, HTTPStatus.SEE_OTHER)


class _Entrance:
    """Signing in and out, errors, and the page's files."""

    def __init__(self, parts: AccountPageParts) -> None:
        self._parts = parts

    def render(self, found: Problem, request_id: str) -> Response:
        """Return the page of a problem: for most that concern a session, the one to sign in."""
        if found.status == HTTPStatus.UNAUTHORIZED or found.code == HttpCode.FORBIDDEN:
            shown = _AT_SIGN_IN.get(found.code, found.message)
            page = self._parts.pages.page("sign_in.html", status=found.status, problem=shown)
        else:
            page = self._parts.pages.page(
                "problem.html", status=found.status, problem=found, request_id=request_id
            )
        page.headers.update(found.headers)
        return page

    async def asset(self, request: Request) -> Response:
        """Answer with one of the page's own files."""
        found = self._parts.pages.asset(request.path_params["name"])
        if found is None:
            raise problem(HTTPStatus.NOT_FOUND, HttpCode.NO_ROUTE)
        return found

    async def sign_in(self, request: Request) -> Response:
        """Exchange an owner's key for a session."""
        check_origin(request)
        fields = await self._parts.door.read_form(request)
        owner = self._parts.limits.identify(request, fields.get("key", ""))
        answer = _to_page()
        answer.headers["Set-Cookie"] = self._parts.door.sessions.begin(owner)
        return answer

    async def sign_out(self, request: Request) -> Response:
        """End the session in this browser."""
        await self._parts.door.form(request)
        answer = _to_page()
        answer.headers["Set-Cookie"] = self._parts.door.sessions.end()
        return answer


class _Overview:
    """Renders the main page."""

    def __init__(self, parts: AccountPageParts) -> None:
        self._parts = parts

    async def page(self, visitor: Visitor, *, created: Token | None = None) -> Response:
        parts, owner, now = self._parts, visitor.owner, self._parts.now()
        return overview(
            parts.pages,
            state=await parts.accounts.state(owner.account),
            uploads=parts.uploads_of(owner.account),
            keys=parts.keys.valid(owner.account, now),
            created=created,
            now=now,
            account=owner.account,
            csrf=visitor.session.csrf,
            proof=owner.proof,
        )


class _Consent(_Overview):
    """The opt-in, and all that belongs to it."""

    async def overview(self, request: Request) -> Response:
        """Show the page."""
        return await self.page(self._parts.door.visitor(request))

    async def status(self, request: Request) -> Response:
        """Tell the opt-in's state and the progress of erasures."""
        account = self._parts.door.visitor(request).owner.account
        erasures = await self._parts.accounts.erasures(account)
        is_on = await self._parts.accounts.is_on(account)
        return JSONResponse(
            {
                "state": "on" if is_on else "off",
                "finished": is_finished(erasures),
                "erasures": [
                    {
                        "grant": each.grant,
                        "steps": [step._asdict() for step in steps_of(each)],
                        "objects": each.objects,
                        "left": each.objects_left,
                        "receipt": each.receipt,
                    }
                    for each in erasures
                ],
            }
        )

    async def ask(self, request: Request) -> Response:
        """Show the text, and ask once more."""
        visitor = self._parts.door.visitor(request)
        return self._parts.pages.page(
            "opt_in.html",
            csrf=visitor.session.csrf,
            account=visitor.owner.account,
            notice=CURRENT_NOTICE,
        )

    async def opt_in(self, request: Request) -> Response:
        """Switch on, with the text that was shown."""
        visitor, fields = await self._parts.door.form(request)
        await self._parts.accounts.opt_in(visitor.owner, fields.get("notice", ""))
        return _to_page()

    async def opt_out(self, request: Request) -> Response:
        """Switch off, and erase all that is kept."""
        visitor, _ = await self._parts.door.form(request)
        await self._parts.accounts.opt_out(visitor.owner)
        return _to_page()

    async def ask_to_close(self, request: Request) -> Response:
        """Say what closing means, and ask."""
        visitor = self._parts.door.visitor(request)
        return self._parts.pages.page(
            "close.html", csrf=visitor.session.csrf, account=visitor.owner.account
        )

    async def close(self, request: Request) -> Response:
        """Close the account: opt out, erase, revoke all keys, and end the session."""
        visitor, fields = await self._parts.door.form(request)
        if fields.get("sure") != _CONFIRMED:
            return RedirectResponse(f"{PREFIX}/close", HTTPStatus.SEE_OTHER)
        await self._parts.accounts.close(visitor.owner)
        answer = self._parts.pages.page("closed.html", account=visitor.owner.account)
        answer.headers["Set-Cookie"] = self._parts.door.sessions.end()
        return answer

    async def receipt(self, request: Request) -> Response:
        """Answer with the consent receipt of a decision."""
        account = self._parts.door.visitor(request).owner.account
        entry = await self._parts.accounts.decision(account, request.path_params["decision"])
        raw = consent_receipt(
            entry,
            lane=self._parts.lane,
            account=account,
            controller=self._parts.service,
            page=f"https://{request.headers.get('host', '')}{PREFIX}",
            created=self._parts.now(),
        )
        name = f'attachment; filename="consent-{entry.id}.jsonld"'
        return Response(raw, headers={"Content-Disposition": name}, media_type=MEDIA_TYPE)

    async def proof(self, request: Request) -> Response:
        """Answer with a receipt from the transparency log."""
        account = self._parts.door.visitor(request).owner.account
        issued = await self._parts.accounts.receipt(account, request.path_params["id"])
        name = f'attachment; filename="{issued.kind}-{issued.id}{PROOF}"'
        return Response(issued.receipt, headers={"Content-Disposition": name}, media_type=TEXT)


class _Keys(_Overview):
    """The account's API keys."""

    async def create(self, request: Request) -> Response:
        """Issue a key, and show it this once."""
        visitor, fields = await self._parts.door.form(request)
        days = fields.get("days", "")
        if len(fields.get("label", "")) > MAX_LABEL or (
            days and not (_DAYS.fullmatch(days) and int(days) <= MAX_DAYS)
        ):
            raise invalid_option("label and expiry of a key")
        account = visitor.owner.account
        kind = CredentialKind.OWNER if fields.get("kind") == "owner" else CredentialKind.IMAGE
        created = await self._parts.keys.create(
            account,
            kind,
            label=fields.get("label", "").strip(),
            days=int(days) if days else None,
            now=self._parts.now(),
        )
        return await self.page(visitor, created=created)

    async def revoke(self, request: Request) -> Response:
        """Revoke a key."""
        visitor, _ = await self._parts.door.form(request)
        await self._parts.keys.revoke(visitor.owner.account, request.path_params["key_id"])
        return _to_page()

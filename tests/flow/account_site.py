"""A gateway's account page with its visitors, and HTTPS without a browser."""

from typing import Any

import requests
from playwright.sync_api import Browser

from erasestream.pipeline.bootstrap.credentials import open_credential_writer
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.topics.credentials.token import Token
from tests.flow.browser import Visitor
from tests.flow.pipeline_harness import BULK, PipelineHarness
from tests.flow.waiting import eventually

TIMEOUT_S = 60


class Site:
    """The page, its visitors, and HTTPS without a browser."""

    def __init__(self, flow: PipelineHarness, browser: Browser) -> None:
        self.flow = flow
        self.browser = browser
        self.url = flow.stack.gateway_url
        self.authority = str(flow.stack.files.identities / "ca.crt")
        self._visitors: list[Visitor] = []

    def issue(self, account: str, kind: CredentialKind = CredentialKind.OWNER) -> Token:
        """Issue a key, and wait until the gateway knows it."""
        with open_credential_writer(self.flow.settings, BULK) as writer:
            token = writer.create(account, kind)
        eventually("the key is known", lambda: self.account_of(token.text) == account)
        return token

    def account_of(self, key: str) -> str | None:
        """Return the account of a key; None if the gateway refuses it."""
        answer = self.ask("GET", "/v2/account", headers={"x-api-key": key})
        return str(answer.json()["account"]["id"]) if answer.ok else None

    def visitor(self, **options: Any) -> Visitor:
        """Open a browser."""
        visitor = Visitor(self.browser, self.url, **options)
        self._visitors.append(visitor)
        return visitor

    def owner(self, account: str, **options: Any) -> Visitor:
        """Open a browser, and sign the account's owner in."""
        visitor = self.visitor(**options)
        visitor.sign_in(self.issue(account).text)
        visitor.switch.wait_for()
        return visitor

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Send a request without a browser."""
        with requests.Session() as session:
            session.trust_env = False
            session.verify = self.authority
            return session.request(method, f"{self.url}{path}", timeout=TIMEOUT_S, **arguments)

    def leave(self) -> None:
        """Close all browsers' windows."""
        for each in self._visitors:
            each.close()
        self._visitors.clear()

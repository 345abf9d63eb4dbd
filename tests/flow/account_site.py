"""A gateway's account page with its visitors, and HTTPS without a browser."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Browser

from erasestream.pipeline.bootstrap.credentials import credential_table, open_credential_writer
from erasestream.pipeline.bootstrap.receipts import receipts_of
from erasestream.pipeline.gateway.account_page.session import COOKIE, Sessions
from erasestream.pipeline.gateway.account_page.sign_in import Owner
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.schemas.ids import AccountId
from erasestream.sinks.log.key_files import public_key
from erasestream.sinks.log.receipt import VerifiedReceipt, verify_receipt
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

    def key_ids(self, account: str) -> list[str]:
        """Return the ids of the account's keys."""
        with credential_table(self.flow.settings, BULK) as table:
            return [each.state.key_id for each in table.of_account(AccountId(account))]

    def session(self, account: str, key_id: str, since: datetime) -> dict[str, str]:
        """Return the cookie of a session that an owner began then, for half an hour."""
        sessions = Sessions(
            self.flow.stack.files.session_key.read_bytes(),
            lifetime=timedelta(minutes=30),
            now=lambda: since,
            random=bytes,
        )
        cookie = sessions.begin(Owner(AccountId(account), key_id))
        return {COOKIE: cookie.partition("=")[2].partition(";")[0]}

    def verify_receipt(self, file: Path) -> VerifiedReceipt:
        """Verify a receipt of the log offline."""
        section = receipts_of(self.flow.settings)
        keys = [public_key(each) for each in (section.log_key, section.auditor_key)]
        return verify_receipt(file.read_bytes(), *keys)

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

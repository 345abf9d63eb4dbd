"""A real browser: Debian's Chromium, one process, with a context of its own for each visitor."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

from erasestream.pipeline.demo import screenshots
from tests.clients.tools import node_modules

DESKTOP = {"width": 1180, "height": 900}
PHONE = {"width": 390, "height": 844}
TIMEOUT_MS = 180_000


@contextmanager
def chromium(certificate: Path) -> Iterator[Browser]:
    """Yield a browser that trusts the server with this certificate, and no other."""
    program = shutil.which("chromium")
    assert program is not None, "install the Debian package chromium"
    with screenshots.chromium(program, certificate) as browser:
        yield browser


class Visitor:
    """A person with a browser of their own, and a page in it."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = f"{url}/account"
        self.context: BrowserContext = browser.new_context(**{"viewport": DESKTOP, **options})
        self.context.set_default_timeout(TIMEOUT_MS)
        self.page = self.open()

    def open(self) -> Page:
        """Open another page, at the account."""
        page = self.context.new_page()
        page.goto(self.url)
        return page

    def sign_in(self, key: str) -> None:
        """Sign in with a key."""
        self.page.locator("#key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()

    @property
    def switch(self) -> Any:
        """The opt-in."""
        return self.page.get_by_role("switch", name="AI training data")

    @property
    def is_on(self) -> bool:
        """Whether the page shows the opt-in as on."""
        return bool(self.switch.get_attribute("aria-checked") == "true")

    @property
    def token(self) -> str:
        """The token that the page's forms have."""
        return str(self.page.locator("input[name=csrf]").first.get_attribute("value"))

    @property
    def cookies(self) -> dict[str, str]:
        """The browser's cookies."""
        return {str(each["name"]): str(each["value"]) for each in self.context.cookies()}

    def switch_on(self) -> None:
        """Opt in, with the confirmation."""
        self.switch.click()
        self.page.get_by_role("button", name="Agree and switch on").click()

    def revoke(self, prefix: str) -> None:
        """Revoke a key, with the confirmation."""
        self.page.locator("summary", has_text=prefix).click()
        self.page.get_by_role("button", name=f"Revoke {prefix}").click()

    def close(self) -> None:
        """Close the browser's windows."""
        self.context.close()


def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong, each with the first element concerned."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate((node_modules() / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate("() => axe.run().then(r => r.violations)")
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]

"""Screenshots of the account page, where there is a Chromium."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Error, sync_playwright

from erasestream.pipeline.devstack.certificate_authority import public_key_digest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1180, "height": 900}
TIMEOUT_MS = 180_000
"""Of each step; Chromium takes half a minute to start on a busy machine."""
TRIES = 5
"""Of a page that is unavailable because a broker was slow."""


class Screenshot(NamedTuple):
    """A picture of the page, and whose page it is."""

    title: str
    png: bytes


class Screenshots(NamedTuple):
    """The pictures, or the reason why there are none, as a sentence."""

    pictures: tuple[Screenshot, ...] = ()
    missing: str = ""


NONE = Screenshots()


def take(url: str, certificate: Path, owners: Mapping[str, str]) -> Screenshots:
    """Sign in with each owner's key, and take a picture under its title."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        return Screenshots(missing="There are no screenshots: Chromium is not installed here.")
    try:
        with chromium(program, certificate) as browser:
            pictures = (Screenshot(title, _page(browser, url, owners[title])) for title in owners)
            return Screenshots(tuple(pictures))
    except Error:
        return Screenshots(missing="There are no screenshots: Chromium did not show the page.")


@contextmanager
def chromium(program: str, certificate: Path) -> Iterator[Browser]:
    """Yield a browser that trusts the server with this certificate, and no other."""
    trusted = public_key_digest(certificate)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[f"--ignore-certificate-errors-spki-list={trusted}"],
            timeout=TIMEOUT_MS,
        )
        try:
            yield browser
        finally:
            browser.close()


def _page(browser: Browser, url: str, key: str) -> bytes:
    with browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        opt_in = page.get_by_role("switch", name="AI training data")
        for _ in range(TRIES):
            page.goto(f"{url}/account")
            if page.locator("#key").is_visible():
                page.locator("#key").fill(key)
                page.get_by_role("button", name="Sign in").click()
            opt_in.or_(page.get_by_role("alert")).wait_for()
            if opt_in.is_visible():
                break
        opt_in.wait_for()
        return page.screenshot()

"""Make the pictures of the account page: off, asking, on, erasing, with a receipt, on a phone.

All of it is real: the stack, the account, the model.  With the font Inter (Debian: fonts-inter),
as many of its visitors have it.

PYTHONPATH=. .venv/bin/python docs/pictures/make_account.py photo.jpg
"""  # noqa: INP001 (a script that runs by itself)

import io
import os
import sys
import tempfile
from pathlib import Path

from PIL import Image

from erasestream.pipeline.bootstrap.receipts import cosigner
from erasestream.schemas.clocks import utc_now
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from tests.flow.account_site import Site
from tests.flow.browser import PHONE, Visitor, chromium
from tests.flow.pipeline_harness import PipelineHarness
from tests.flow.waiting import eventually
from tests.paths import CACHE

HERE = Path(__file__).parent
ACCOUNT = "acct-17"
STAGES = ("gateway", "erase", "attest")
MODEL = {
    "ERASESTREAM_INFERENCE__MODELS": str(CACHE / "models"),
    "ERASESTREAM_INFERENCE__MODEL": "isnet",
}
UPLOADS = 7
COLOURS = 160
HEIGHT = 1000


def save(visitor: Visitor, name: str, height: int = HEIGHT) -> None:
    """Write the upper part of a page, in few colours."""
    picture = Image.open(io.BytesIO(visitor.page.screenshot(full_page=True))).convert("RGB")
    upper = picture.crop((0, 0, picture.width, min(height, picture.height)))
    upper.quantize(COLOURS).save(HERE / f"account-{name}.png", optimize=True)


def create_key(owner: Visitor, name: str) -> str:
    """Create a key in the page, and return it."""
    owner.page.get_by_label("Name", exact=True).fill(name)
    owner.page.get_by_role("button", name="Create key").click()
    return str(owner.page.locator("#new-key").inner_text())


def make(site: Site, photo: Path) -> None:
    """Do as an owner does, and write each picture."""
    owner = site.owner(ACCOUNT)
    save(owner, "off")
    owner.switch.click()
    owner.page.locator(".notice").wait_for()
    save(owner, "opt-in")
    owner.page.get_by_role("button", name="Agree and switch on").click()
    owner.page.get_by_text("On since").first.wait_for()
    counts_from = utc_now() + MAX_CLOCK_SKEW
    eventually("an upload counts as after the grant", lambda: utc_now() > counts_from)
    headers = {"x-api-key": create_key(owner, "Shop server")}
    for _ in range(UPLOADS):
        files = {"image_file": photo.read_bytes()}
        site.ask("POST", "/v2", files=files, headers=headers).raise_for_status()
    site.flow.wait_until_drained()
    owner.page.goto(owner.url)
    owner.page.locator("#photo").set_input_files(photo)
    owner.page.locator(".after").wait_for()
    owner.page.wait_for_function("document.querySelector('.after').naturalWidth > 0")
    save(owner, "on", 1300)
    site.flow.wait_until_drained()
    owner.switch.click()
    owner.page.locator("[data-step=confirmed][data-done=yes]").wait_for()
    save(owner, "erasing")
    phone = site.owner(ACCOUNT, viewport=PHONE, device_scale_factor=2, color_scheme="dark")
    save(phone, "phone", 2 * PHONE["height"])
    owner.page.locator("[data-step=gone][data-done=yes]").wait_for()
    link = owner.page.get_by_role("link", name="Download the receipt")

    def is_cosigned() -> bool:
        with cosigner(site.flow.settings) as auditor:
            auditor.cosign()
        return bool(link.is_visible())

    eventually("the receipt is in the page", is_cosigned, poll_s=1)
    save(owner, "receipt", 700)


def main(photo: Path) -> None:
    """Run a stack for it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= MODEL
        flow = PipelineHarness(Path(folder))
        try:
            flow.start()
            flow.start_stages(STAGES)
            with chromium(flow.stack.files.identities / "gateway.crt") as browser:
                site = Site(flow, browser)
                make(site, photo)
                site.leave()
        finally:
            flow.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

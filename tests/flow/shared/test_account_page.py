"""The account page in a real browser, on the shared stack, with the real gateway and eraser."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from erasestream.pipeline.bootstrap.credentials import open_credential_writer
from erasestream.pipeline.bootstrap.receipts import cosigner
from erasestream.pipeline.gateway.account_page.notice import CURRENT_NOTICE
from erasestream.pipeline.gateway.account_page.pages import day
from erasestream.schemas.error_codes import SENTENCES, Code
from erasestream.schemas.errors import AccountClosed
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel, Decision
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.schemas.events.receipts import ErasureLeaf
from tests.flow.account_site import Site
from tests.flow.browser import PHONE, chromium, violations
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import BULK, PipelineHarness
from tests.flow.waiting import eventually

STAGES = ("gateway", "erase", "attest")


@pytest.fixture(scope="module")
def opened(flow: PipelineHarness) -> Iterator[Site]:
    flow.start_stages(STAGES)
    with chromium(flow.stack.files.identities / "gateway.crt") as browser:
        yield Site(flow, browser)
    for name in STAGES:
        flow.stack.stop_stage(name)


@pytest.fixture
def site(opened: Site) -> Iterator[Site]:
    yield opened
    opened.leave()


@pytest.fixture(scope="module")
def revoked(opened: Site) -> str:
    """Return an account whose owner has opted in, sent two photos, deleted one, and opted out."""
    account = "page-revoked"
    owner = opened.owner(account)
    owner.switch_on()
    owner.page.get_by_text("On since").first.wait_for()
    grant = opened.flow.consent(BULK).reader.active_grant(account)
    assert grant is not None
    counts_from = grant.appended_at + MAX_CLOCK_SKEW
    eventually("an upload counts as after the grant", lambda: datetime.now(UTC) > counts_from)
    headers = {"x-api-key": opened.issue(account, CredentialKind.IMAGE).text}
    files = {"image_file": ("photo.jpg", photo())}
    assert opened.ask("POST", "/v2", files=files, headers=headers).ok
    headers["Prefer"] = "wait=60"
    deleted = opened.ask("POST", "/v2/images", files=files, headers=headers)
    opened.flow.wait_until_drained()

    def is_counted(uploads: str) -> bool:
        owner.page.reload()
        owner.page.get_by_text("Kept, by day of upload").click()
        return owner.page.get_by_text(f"{day(datetime.now(UTC))}: {uploads}").is_visible()

    assert is_counted("2 uploads")
    owners = {"x-api-key": opened.issue(account).text}
    assert opened.ask("DELETE", deleted.headers["Location"], headers=owners).ok
    eventually("what is deleted is not counted", lambda: is_counted("1 upload"), poll_s=0.5)
    owner.switch.click()
    owner.page.locator("[data-step=recorded][data-done=yes]").wait_for()
    opened.leave()
    return account


def test_the_opt_in_is_the_first_control_and_off(site: Site) -> None:
    owner = site.owner("page-new")
    first = owner.page.locator("main").locator("button, a, input, select").first
    assert first.get_attribute("role") == "switch"
    assert not owner.is_on
    assert owner.page.get_by_text("No decision yet").is_visible()


def test_switching_on_asks_once_more_with_the_exact_text(site: Site) -> None:
    owner = site.owner("page-on")
    owner.switch.click()
    shown = owner.page.locator(".notice").inner_text()
    assert shown.split() == CURRENT_NOTICE.text.split()
    assert owner.page.get_by_text(CURRENT_NOTICE.sha256).is_visible()
    assert site.flow.consent(BULK).reader.history("page-on") == []
    owner.page.get_by_role("button", name="Agree and switch on").click()
    owner.page.get_by_text("On since").first.wait_for()
    assert owner.is_on
    (entry,) = site.flow.consent(BULK).reader.history("page-on")
    assert entry.decision is Decision.GRANTED
    assert (entry.channel, entry.notice) == (Channel.ACCOUNT_PAGE, CURRENT_NOTICE.reference)


def test_the_decision_is_downloaded_as_a_consent_receipt(site: Site) -> None:
    owner = site.owner("page-receipt")
    owner.switch_on()
    with owner.page.expect_download() as download:
        owner.page.get_by_role("link", name="Receipt of").click()
    receipt = json.loads(Path(download.value.path()).read_bytes())
    record = receipt["dpv:hasRecordOfActivity"]
    notice = record["dpv:hasNotice"]
    digest = hashlib.sha256(notice["schema:text"].encode()).hexdigest()
    assert digest == notice["spdx:checksum"]["spdx:checksumValue"] == CURRENT_NOTICE.sha256
    assert notice["dct:language"] == "en"
    assert "dpv:ConsentGiven" in record["dpv:hasConsentStatus"]["@type"]
    assert record["dpv:hasConsentControl"]["dpv:isExercisedAt"] == f"{site.url}/account"
    (entry,) = site.flow.consent(BULK).reader.history("page-receipt")
    assert record["dct:identifier"] == entry.id
    other = site.owner("page-other")
    path = f"/account/receipts/{entry.id}.jsonld"
    assert site.ask("GET", path, cookies=other.cookies).status_code == 404


def test_two_browsers_agree_without_a_reload(site: Site) -> None:
    one, other = site.owner("page-two"), site.owner("page-two")
    one.switch_on()
    other.page.get_by_role("switch", checked=True).wait_for()
    other.switch.click()
    one.page.get_by_role("switch", checked=False).wait_for()
    one.page.reload()
    assert not one.is_on


def test_a_request_that_another_page_made_is_refused(site: Site) -> None:
    owner = site.owner("page-forged")
    cookies, token = owner.cookies, owner.token
    path, notice = "/account/opt-in", CURRENT_NOTICE.reference

    def post(fields: dict[str, str], **headers: str) -> int:
        fields = {"notice": notice, **fields}
        return site.ask("POST", path, data=fields, cookies=cookies, headers=headers).status_code

    assert post({}) == 403
    assert post({"csrf": site.owner("page-forger").token}) == 403
    assert post({"csrf": token}, Origin="https://127.0.0.9") == 403
    page = owner.context.new_page()  # of another origin: the browser sends no cookie
    page.goto("data:text/html,<title>other</title>")
    page.set_content(
        f'<form method=post action="{site.url}{path}"><input name=csrf value="{token}">'
        f'<input name=notice value="{notice}"><button>Go</button></form>'
    )
    page.get_by_role("button").click()
    page.get_by_text("Sign in to your account").wait_for()
    assert site.flow.consent(BULK).reader.history("page-forged") == []


def test_another_text_than_the_one_that_was_shown_is_refused(site: Site) -> None:
    owner = site.owner("page-text")
    fields = {"csrf": owner.token, "notice": f"ai-training-data.0/{'0' * 64}"}
    answer = site.ask("POST", "/account/opt-in", data=fields, cookies=owner.cookies)
    assert answer.status_code == 409


def test_keys_of_images_do_not_come_in(site: Site) -> None:
    key = site.issue("page-images", CredentialKind.IMAGE).text
    visitor = site.visitor()
    visitor.sign_in(key)
    visitor.page.get_by_role("alert").wait_for()
    assert visitor.context.cookies() == []
    assert site.ask("POST", "/account/sign-in", data={"key": key}).status_code == 403
    for path in ("", "/status", "/opt-in", "/close"):
        answer = site.ask("GET", f"/account{path}", headers={"x-api-key": key})
        assert answer.status_code == 403
    for path in ("/opt-in", "/opt-out", "/close", "/keys"):
        answer = site.ask("POST", f"/account{path}", headers={"x-api-key": key})
        assert answer.status_code == 403


def test_a_session_ends_with_its_time_and_with_its_key(site: Site) -> None:
    owner = site.owner("page-session")
    (cookie,) = owner.context.cookies()
    assert cookie["secure"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    (key_id,) = site.key_ids("page-session")
    cookies = site.session("page-session", key_id, datetime.now(UTC) - timedelta(hours=1))
    assert site.ask("GET", "/account", cookies=cookies).status_code == 401
    owner.revoke(f"es_owner_{key_id}")
    owner.page.get_by_text("Sign in to your account").wait_for()
    assert site.ask("GET", "/account", cookies=owner.cookies).status_code == 401


def test_keys_are_created_and_revoked(site: Site) -> None:
    owner = site.owner("page-keys")
    owner.page.get_by_label("Name", exact=True).fill("<b>Shop</b> server")
    owner.page.get_by_role("button", name="Create key").click()
    key = owner.page.locator("#new-key").inner_text()
    assert site.account_of(key) == "page-keys"
    assert owner.page.get_by_text("<b>Shop</b> server").is_visible()
    owner.page.goto(owner.url)
    assert owner.page.get_by_text(key).count() == 0
    owner.revoke(key.rpartition("_")[0])
    owner.page.get_by_text("<b>Shop</b> server").wait_for(state="detached")
    assert site.account_of(key) is None


def test_a_photo_is_cut_out_in_the_page(site: Site, tmp_path: Path) -> None:
    owner = site.owner("page-try")
    file = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo()}
    owner.page.locator("#photo").set_input_files(file)
    owner.page.locator(".compare").wait_for()
    for image in (".before", ".after"):
        eventually(
            "the picture is shown",
            lambda image=image: owner.page.locator(image).evaluate("i => i.naturalWidth") == 48,
        )
    with owner.page.expect_download() as download:
        owner.page.get_by_role("link", name="Download PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    owner.page.locator("#photo").set_input_files({**file, "buffer": b"GIF89a"})
    refused = SENTENCES[Code.UNSUPPORTED_FORMAT]
    owner.page.locator(".try-status", has_text=refused).wait_for()
    owner.page.reload()
    owner.page.get_by_text("When each upload is gone").click()
    assert owner.page.get_by_text("gone by").first.is_visible()
    forged = site.ask("POST", "/account/try", files={"image_file": photo()}, cookies=owner.cookies)
    assert forged.status_code == 403


def test_a_closed_account_stays_off_and_has_no_key(site: Site) -> None:
    """Also for a second browser that is about to switch it on, and for another process."""
    account = "page-closed"
    owner, other = site.owner(account), site.owner(account)
    image_key = site.issue(account, CredentialKind.IMAGE).text
    owner.switch_on()
    owner.page.get_by_text("On since").first.wait_for()
    other.page.goto(f"{other.url}/opt-in")
    owner.page.get_by_role("link", name="Close account").click()
    owner.page.get_by_label("I understand").check()
    owner.page.get_by_role("button", name="Close the account").click()
    owner.page.get_by_text("This account is closed").wait_for()
    assert owner.context.cookies() == []
    other.page.get_by_role("button", name="Agree and switch on").click()
    other.page.get_by_text("Sign in to your account").wait_for()
    with open_credential_writer(site.flow.settings, BULK) as writer:
        late_key = writer.create(account, CredentialKind.OWNER).text
    site.issue("page-after-the-late-key")
    assert site.account_of(image_key) is None
    assert site.account_of(late_key) is None
    consent = site.flow.consent(BULK)
    with pytest.raises(AccountClosed):
        consent.grant(account, actor="owner", channel=Channel.LIBRARY)
    assert consent.reader.active_grant(account) is None
    last = consent.reader.history(account)[-1]
    assert last.decision is Decision.REVOKED


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(site: Site, revoked: str, scheme: str) -> None:
    """axe-core finds nothing, on any page with all opened, and a phone does not scroll sideways."""
    phone = site.visitor(viewport=PHONE, color_scheme=scheme)
    assert violations(phone.page) == []
    phone.sign_in(site.issue(revoked).text)
    phone.page.locator(".erasure").first.wait_for()
    for path in ("", "/opt-in", "/close", "/nothing"):
        phone.page.goto(f"{phone.url}{path}")
        phone.page.evaluate("document.querySelectorAll('details').forEach(d => (d.open = true))")
        assert violations(phone.page) == [], path
        wide = phone.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, path


def test_an_erasure_is_followed_to_its_end(site: Site, revoked: str) -> None:
    owner = site.owner(revoked)
    owner.page.locator("[data-step=gone][data-done=yes]").wait_for()
    owner.page.reload()
    assert not owner.is_on
    assert owner.page.get_by_text("All that was ever kept is erased").is_visible()
    assert owner.page.get_by_text("2 encrypted images erased").is_visible()


def test_the_receipt_of_an_erasure_is_downloaded_and_verified(site: Site, revoked: str) -> None:
    """It appears in the open page once the auditor has cosigned it."""
    owner = site.owner(revoked)
    owner.page.locator("[data-step=gone][data-done=yes]").wait_for()
    link = owner.page.get_by_role("link", name="Download the receipt")

    def is_cosigned() -> bool:
        with cosigner(site.flow.settings) as auditor:
            auditor.cosign()
        return bool(link.is_visible())

    eventually("the receipt is in the page", is_cosigned, poll_s=1)
    path = link.get_attribute("href")
    with owner.page.expect_download() as download:
        link.click()
    verified = site.verify_receipt(Path(download.value.path()))
    assert isinstance(verified.leaf, ErasureLeaf)
    assert (verified.leaf.objects, verified.extra.account) == (2, revoked)
    assert download.value.suggested_filename == f"erasure-{verified.leaf.id}.tlog-proof"
    other = site.owner("page-no-receipt").cookies
    assert site.ask("GET", str(path), cookies=other).status_code == 404

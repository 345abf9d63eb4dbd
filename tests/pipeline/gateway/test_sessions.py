"""Sessions of the account page: of one owner, for a limited time."""

from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.gateway.account_page.session import COOKIE, Sessions
from erasestream.pipeline.gateway.account_page.sign_in import Owner
from erasestream.schemas.ids import AccountId

OWNER = Owner(AccountId("acct-17"), "4f7q0d2m9xkt")
BEGIN = datetime(2026, 1, 2, tzinfo=UTC)
LIFE = timedelta(minutes=30)


def sessions(after: timedelta = timedelta(0), key: bytes = b"k" * 32, fill: int = 1) -> Sessions:
    return Sessions(
        key, lifetime=LIFE, now=lambda: BEGIN + after, random=lambda size: bytes([fill]) * size
    )


def cookie(header: str) -> str:
    name, _, rest = header.partition("=")
    assert name == COOKIE
    return rest.partition(";")[0]


VALUE = cookie(sessions().begin(OWNER))


def test_a_session_ends_after_its_time() -> None:
    session = sessions(LIFE - timedelta(seconds=1)).verify(VALUE)
    assert session is not None
    assert session.owner == OWNER
    assert sessions(LIFE).verify(VALUE) is None


def test_any_gateway_with_the_key_verifies_it_and_no_other() -> None:
    assert sessions(fill=2).verify(VALUE) == sessions().verify(VALUE)
    assert sessions(key=b"o" * 32).verify(VALUE) is None


@pytest.mark.parametrize("at", range(0, len(VALUE), 7))
def test_a_changed_session_is_refused(at: int) -> None:
    changed = VALUE[:at] + ("A" if VALUE[at] != "A" else "B") + VALUE[at + 1 :]
    assert sessions().verify(changed) is None


@pytest.mark.parametrize("value", ["", ".", "a.b", VALUE.partition(".")[0], "\u00e9." + "0" * 64])
def test_nonsense_is_refused(value: str) -> None:
    assert sessions().verify(value) is None


def test_each_session_has_a_token_of_its_own() -> None:
    one, other = sessions().verify(VALUE), sessions().verify(cookie(sessions(fill=2).begin(OWNER)))
    assert one is not None
    assert other is not None
    assert one.csrf != other.csrf
    assert one.csrf not in VALUE


def test_the_cookie_is_for_this_host_and_no_script() -> None:
    header = sessions().begin(OWNER)
    assert header.endswith("; Max-Age=1800; Path=/; Secure; HttpOnly; SameSite=Strict")
    assert sessions().end().startswith(f"{COOKIE}=; Max-Age=0;")

"""Which key is for what: an image key cannot touch consent, history, erasure or keys."""

from datetime import UTC, date, datetime, timedelta

import pytest
from starlette.requests import Request

from erasestream.pipeline.gateway.callers import Callers
from erasestream.pipeline.gateway.problems import Problem
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.credentials import CredentialKind, CredentialSet
from erasestream.schemas.ids import AccountId
from erasestream.topics.credentials.table import Credential

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "0195a4b2-7c3d-7e4f-8a1b-2c3d4e5f6071"


def credential(account: str, kind: CredentialKind, used_on: date | None = None) -> Credential:
    state = CredentialSet(
        id=ID,
        time=NOW,
        account=AccountId(account),
        key_id=f"{account:0<12}",
        kind=kind,
        token_sha256="ab" * 32,
        created_at=NOW,
    )
    return Credential(state, used_on)


KEYS = {
    f"{account}-{kind}": credential(account, kind)
    for account in ("alice", "bob")
    for kind in CredentialKind
}


class Keys:
    """Keys by their text."""

    def __init__(self) -> None:
        self.is_fresh = True

    def authenticate(self, text: str, _now: datetime) -> Credential | None:
        if not self.is_fresh:
            raise Unavailable
        return KEYS.get(text)


def request(key: str | None) -> Request:
    headers = [] if key is None else [(b"x-api-key", key.encode())]
    return Request({"type": "http", "headers": headers})


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def used() -> list[tuple[str, date]]:
    return []


@pytest.fixture
def callers(keys: Keys, used: list[tuple[str, date]]) -> Callers:
    return Callers(keys, now=lambda: NOW, note_use=lambda *use: used.append(use))


@pytest.mark.parametrize("account", ["alice", "bob"])
@pytest.mark.parametrize("kind", CredentialKind)
def test_a_key_is_for_its_own_account_and_purpose(
    callers: Callers, account: str, kind: CredentialKind
) -> None:
    asked = request(f"{account}-{kind}")
    assert callers.for_images(asked).account == account
    if kind is CredentialKind.OWNER:
        assert callers.for_owner(asked).account == account
    else:
        with pytest.raises(Problem, match="forbidden") as caught:
            callers.for_owner(asked)
        assert caught.value.status == 403


@pytest.mark.parametrize(
    ("key", "code"),
    [(None, "missing_api_key"), (" ", "missing_api_key"), ("mallory", "invalid_api_key")],
)
def test_others_are_not_let_in(callers: Callers, key: str | None, code: str) -> None:
    for enter in (callers.for_images, callers.for_owner):
        with pytest.raises(Problem, match=code) as caught:
            enter(request(key))
        assert caught.value.status == 401


def test_no_key_is_valid_while_revocations_may_be_missing(callers: Callers, keys: Keys) -> None:
    keys.is_fresh = False
    with pytest.raises(Problem, match="unavailable") as caught:
        callers.for_images(request("alice-image"))
    assert caught.value.status == 503


def test_the_first_use_of_a_day_is_noted(
    callers: Callers, used: list[tuple[str, date]], monkeypatch: pytest.MonkeyPatch
) -> None:
    today, yesterday = NOW.date(), NOW.date() - timedelta(days=1)
    for used_on in (None, yesterday, today):
        found = credential("alice", CredentialKind.IMAGE, used_on)
        monkeypatch.setitem(KEYS, "alice-image", found)
        callers.for_images(request("alice-image"))
    assert used == [(found.state.key_id, today)] * 2

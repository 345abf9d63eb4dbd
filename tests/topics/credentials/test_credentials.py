"""API keys: their text, and which of them are valid."""

import os
from datetime import UTC, date, datetime, timedelta

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.base import TimedEvent
from erasestream.schemas.events.credentials import (
    CredentialKind,
    CredentialsClosed,
    CredentialSet,
    CredentialUsed,
)
from erasestream.schemas.ids import AccountId
from erasestream.topics.credentials.table import CredentialTable, closing_key, state_key, use_key
from erasestream.topics.credentials.token import Token, new_token, parse_token
from erasestream.topics.kafka.records import Partition, Record

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "0195a4b2-7c3d-7e4f-8a1b-2c3d4e5f6071"
ALICE, BOB = AccountId("alice"), AccountId("bob")


def token(kind: CredentialKind = CredentialKind.IMAGE) -> Token:
    return new_token(kind, os.urandom)


def state(of: Token, account: AccountId = ALICE, **changes: object) -> CredentialSet:
    return CredentialSet.model_validate(
        {
            "id": ID,
            "time": NOW,
            "account": account,
            "key_id": of.key_id,
            "kind": of.kind,
            "token_sha256": of.sha256,
            "created_at": NOW,
            **changes,
        }
    )


def record(key: bytes, event: TimedEvent) -> Record:
    wire = to_wire(event, source="/test")
    return Record(
        at=Partition("credentials.shop", 0),
        offset=0,
        key=key,
        value=wire.value,
        headers=wire.headers,
        appended_ms=0,
    )


def table(*states: CredentialSet) -> CredentialTable:
    found = CredentialTable()
    for each in states:
        found.apply(record(state_key(each.key_id), each))
    return found


@pytest.mark.parametrize("kind", CredentialKind)
def test_a_token_is_parsed_to_what_was_stored_of_it(kind: CredentialKind) -> None:
    issued = token(kind)
    assert parse_token(issued.text) == issued
    assert issued.text not in repr(issued)
    assert issued.text.startswith(f"es_{kind}_{issued.key_id}_")


@pytest.mark.parametrize("text", ["", "es_image_", "es_admin_0123456789ab_" + "a" * 38, "x" * 9999])
def test_other_text_is_no_token(text: str) -> None:
    assert parse_token(text) is None
    issued = token().text
    for changed in (issued[:-1], f"{issued} ", f"{issued}\n", issued.upper()):
        assert parse_token(changed) is None


def test_a_key_is_valid_for_its_own_text_only() -> None:
    """Not for that of another key, of another kind, or with another secret."""
    one, other = token(), token()
    keys = table(state(one), state(other, BOB))
    found = keys.authenticate(one, NOW)
    assert found is not None
    assert found.state.account == ALICE
    assert keys.authenticate(one._replace(sha256=other.sha256), NOW) is None
    assert keys.authenticate(one._replace(kind=CredentialKind.OWNER), NOW) is None
    assert keys.authenticate(token(), NOW) is None


def test_a_key_ends_when_it_expires_or_is_revoked() -> None:
    issued = token()
    later = NOW + timedelta(days=1)
    keys = table(state(issued, expires_at=later))
    assert keys.authenticate(issued, later - timedelta(seconds=1))
    assert keys.authenticate(issued, later) is None
    keys = table(state(issued), state(issued, revoked_at=NOW))
    assert keys.authenticate(issued, NOW) is None


def test_a_record_that_cannot_be_read_invalidates_its_key_alone() -> None:
    one, other = token(), token()
    keys = table(state(one), state(other))
    keys.apply(record(state_key(one.key_id), state(other)))  # under another id
    assert keys.authenticate(one, NOW) is None
    assert keys.authenticate(other, NOW)
    keys.apply(record(state_key(other.key_id), state(other))._replace(value=b"nonsense"))
    assert keys.authenticate(other, NOW) is None


def test_a_use_changes_nothing_but_the_last_use() -> None:
    issued, day = token(), date(2026, 3, 2)
    keys = table(state(issued))
    keys.apply(
        record(
            use_key(issued.key_id), CredentialUsed(id=ID, time=NOW, key_id=issued.key_id, day=day)
        )
    )
    found = keys.authenticate(issued, NOW)
    assert found is not None
    assert found.used_on == day
    assert keys.of_account(ALICE) == [found]
    assert keys.of_account(BOB) == []


def test_the_keys_of_an_account_follow_their_records() -> None:
    one, other = token(), token()
    keys = table(state(one), state(other, created_at=NOW - timedelta(days=1)))
    assert [each.state.key_id for each in keys.of_account(ALICE)] == [other.key_id, one.key_id]
    keys.apply(record(state_key(one.key_id), state(one, BOB)))
    assert [each.state.key_id for each in keys.of_account(ALICE)] == [other.key_id]
    assert [each.state.key_id for each in keys.of_account(BOB)] == [one.key_id]
    unreadable = record(state_key(one.key_id), state(one))._replace(value=b"", headers=[])
    keys.apply(unreadable)
    assert keys.of_account(BOB) == []


def test_a_closed_account_has_no_valid_key_old_or_new() -> None:
    """Whatever else the record holds; the keys of others stay valid."""
    old, new, other = token(), token(CredentialKind.OWNER), token()
    keys = table(state(old), state(other, BOB))
    closed = CredentialsClosed(id=ID, time=NOW, account=ALICE, closed_at=NOW)
    keys.apply(record(closing_key(ALICE), closed)._replace(value=b"nonsense"))
    keys.apply(record(state_key(new.key_id), state(new)))
    assert keys.authenticate(old, NOW) is None
    assert keys.authenticate(new, NOW) is None
    assert not any(each.is_valid(NOW) for each in keys.of_account(ALICE))
    assert keys.is_closed(ALICE)
    assert keys.authenticate(other, NOW)
    assert not keys.is_closed(BOB)

"""Identifiers: their form, and the inputs that derived ones depend on."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.errors import FAILURE_CODES, SENTENCES, Code
from erasestream.schemas.ids import (
    AccountId,
    Lane,
    grant_id,
    idempotent_upload_id,
    is_account,
    is_uuid,
    new_upload_id,
    upload_id_of_position,
)

MS = st.integers(0, 2**48 - 1)
LANE, ACCOUNT = Lane("shop"), AccountId("acct")


@given(now_ms=MS, random=st.binary(min_size=10, max_size=10))
def test_new_ids_are_version_7_and_hold_the_time(now_ms: int, random: bytes) -> None:
    """RFC 9562, 5.7; they sort by time."""
    upload_id = new_upload_id(now_ms, random)
    parsed = UUID(upload_id)
    assert is_uuid(upload_id)
    assert (parsed.version, parsed.variant) == (7, "specified in RFC 4122")
    assert parsed.int >> 80 == now_ms


@given(now_ms=MS, key=st.text(max_size=200))
def test_idempotent_ids_are_version_8_and_stable(now_ms: int, key: str) -> None:
    upload_id = idempotent_upload_id(LANE, ACCOUNT, key, now_ms)
    assert upload_id == idempotent_upload_id(LANE, ACCOUNT, key, now_ms)
    assert UUID(upload_id).version == 8
    assert UUID(upload_id).int >> 80 == now_ms


def test_idempotent_ids_differ_in_every_argument() -> None:
    """Including arguments whose concatenation is the same."""
    ids = {
        idempotent_upload_id(LANE, ACCOUNT, "k", 1),
        idempotent_upload_id(Lane("bulk"), ACCOUNT, "k", 1),
        idempotent_upload_id(LANE, AccountId("other"), "k", 1),
        idempotent_upload_id(LANE, ACCOUNT, "l", 1),
        idempotent_upload_id(LANE, ACCOUNT, "k", 2),
        idempotent_upload_id(Lane("shopacct"), AccountId(""), "k", 1),
    }
    assert len(ids) == 6


def test_grant_ids_depend_on_lane_account_and_decision() -> None:
    decision = new_upload_id(1, bytes(10))
    ids = {
        grant_id(LANE, ACCOUNT, decision),
        grant_id(Lane("bulk"), ACCOUNT, decision),
        grant_id(LANE, AccountId("other"), decision),
        grant_id(LANE, ACCOUNT, new_upload_id(2, bytes(10))),
    }
    assert len(ids) == 4


def test_ids_of_positions_are_stable_and_distinct() -> None:
    ids = {upload_id_of_position(t, p, o) for t in "ab" for p in (0, 1) for o in (0, 1)}
    assert len(ids) == 8
    assert all(map(is_uuid, ids))


@pytest.mark.parametrize("text", ["", "_invalid", "a b", "a@b", "ä", "a/b", "x" * 65, "a\n"])
def test_invalid_account_ids_are_refused(text: str) -> None:
    """E-mail addresses among them."""
    assert not is_account(text)


def test_every_code_has_a_sentence() -> None:
    assert SENTENCES.keys() == set(Code)
    assert all(len(text) > 20 and text.endswith(".") for text in SENTENCES.values())


def test_failure_codes_exclude_errors_of_our_own_setup() -> None:
    codes = set(FAILURE_CODES)
    assert {Code.EMPTY, Code.EXPIRED, Code.PROCESSING_CRASHED} <= codes
    assert not codes & {Code.MISCONFIGURED, Code.BROKER_UNAVAILABLE, Code.FENCED, Code.ERASED}

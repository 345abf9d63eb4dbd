"""The table of grants equals a dictionary, and is smaller."""

import hashlib
from itertools import count
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from erasestream.topics.consent.grant_table import Granted, GrantTable, _bucket

ACCOUNTS = st.sampled_from([f"acct-{n}".encode() for n in range(20)]) | st.binary(max_size=64)
GRANTS = st.builds(Granted, st.uuids().map(str), st.integers(-1, 2**62))
OPERATIONS = st.lists(st.tuples(ACCOUNTS, st.none() | GRANTS), max_size=60)


def digest_of(account: bytes) -> bytes:
    """Return the digest of an account in a table with a constant key."""
    return hashlib.blake2b(account, digest_size=16, key=bytes(16)).digest()


@given(OPERATIONS)
def test_the_table_equals_a_dictionary(operations: list[tuple[bytes, Granted | None]]) -> None:
    table, expected = GrantTable(), dict[bytes, Granted]()
    for account, granted in operations:
        if granted is None:
            table.drop(account)
            expected.pop(account, None)
        else:
            table.put(account, **granted._asdict())
            expected[account] = granted
        assert len(table) == len(expected)
    assert {each: table.get(each) for each, _ in operations} == {
        each: expected.get(each) for each, _ in operations
    }
    table.clear()
    assert len(table) == 0
    assert not any(table.get(account) for account, _ in operations)


def test_accounts_of_one_bucket_stay_apart() -> None:
    """Three and more in each bucket; half of them are deleted."""
    table = GrantTable(random=lambda _: b"\0" * 16)
    accounts = [f"acct-{n}".encode() for n in range(50_000)]
    for number, account in enumerate(accounts):
        table.put(account, decision_id=str(UUID(int=number)), appended_ms=number)
    for account in accounts[::2]:
        table.drop(account)
    assert len(table) == 25_000
    for number, account in enumerate(accounts):
        assert table.get(account) == (
            Granted(str(UUID(int=number)), number) if number % 2 else None
        )


def test_an_id_equal_to_the_digest_of_an_account_is_not_found() -> None:
    """An attacker could choose such a decision id."""
    table = GrantTable(random=bytes)
    other = b"other"
    accounts = (f"acct-{n}".encode() for n in count())
    account = next(each for each in accounts if _bucket(each) == _bucket(other))
    table.put(account, decision_id=str(UUID(bytes=digest_of(other))), appended_ms=7)
    assert table.get(other) is None
    table.drop(other)
    table.put(other, decision_id=str(UUID(int=1)), appended_ms=8)
    assert table.get(account) == Granted(str(UUID(bytes=digest_of(other))), 7)
    assert table.get(other) == Granted(str(UUID(int=1)), 8)

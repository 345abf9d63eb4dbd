"""The table of grants is a dictionary, only smaller."""

import hashlib
from itertools import count
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from erasestream.topics.consent.grant_table import Granted, GrantTable, _bucket

ACCOUNTS = st.sampled_from([f"acct-{n}".encode() for n in range(20)]) | st.binary(max_size=64)
GRANTS = st.builds(Granted, st.uuids().map(str), st.integers(-1, 2**62))
OPERATIONS = st.lists(st.tuples(ACCOUNTS, st.none() | GRANTS), max_size=60)


def name_of(account: bytes) -> bytes:
    """What stands for an account in a table without randomness."""
    return hashlib.blake2b(account, digest_size=16, key=bytes(16)).digest()


@given(OPERATIONS)
def test_what_was_put_last_is_there(operations: list[tuple[bytes, Granted | None]]) -> None:
    """And what was dropped is not."""
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
    """Three and more in each; half of them go again."""
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


def test_bytes_that_look_like_an_account_are_none() -> None:
    """A decision's id could be the very bytes that stand for another account of the bucket."""
    table = GrantTable(random=bytes)
    other = b"other"
    accounts = (f"acct-{n}".encode() for n in count())
    account = next(each for each in accounts if _bucket(each) == _bucket(other))
    table.put(account, decision_id=str(UUID(bytes=name_of(other))), appended_ms=7)
    assert table.get(other) is None
    table.drop(other)
    table.put(other, decision_id=str(UUID(int=1)), appended_ms=8)
    assert table.get(account) == Granted(str(UUID(bytes=name_of(other))), 7)
    assert table.get(other) == Granted(str(UUID(int=1)), 8)

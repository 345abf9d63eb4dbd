"""Rows with the key of an earlier row are found among many, with little memory."""

import tracemalloc
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.bulk_upload.manifest_reader import Row
from erasestream.pipeline.bulk_upload.repeated_keys import RepeatedKeys

ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("pq"), st.sampled_from(["k", "l", "m", None])),
    max_size=12,
)


def row(number: int, path: str, account: str, key: str | None) -> Row:
    return Row(number=number, path=Path(path), account=account, idempotency_key=key)


@given(ROWS, st.sampled_from([0, 10_000_000]))
def test_conflicts_are_those_of_a_table_of_all_keys(
    cells: list[tuple[str, str, str | None]], size: int
) -> None:
    rows = [row(number, *each) for number, each in enumerate(cells, start=1)]
    keys = RepeatedKeys.find(rows, manifest_bytes=size)
    first: dict[tuple[str, str], Row] = {}
    for each in rows:
        expected = None
        if each.idempotency_key is not None:
            known = first.setdefault((each.account, each.idempotency_key), each)
            expected = known.number if known.path != each.path else None
        assert keys.conflict(each) == expected
    assert keys.rows == len(rows)


def test_keys_of_their_own_take_a_few_bytes_each() -> None:
    """A table of all keys takes 300 bytes and more of each row."""
    count, line_bytes = 20_000, 60
    tracemalloc.start()
    try:
        rows = (row(n, "p", "a", f"sku-{n}") for n in range(count))
        keys = RepeatedKeys.find(rows, manifest_bytes=count * line_bytes)
        assert all(keys.conflict(row(n, "q", "a", f"sku-{n}")) is None for n in range(count))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 * count

"""Keys are in the partition that Kafka's Java clients choose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.events.consent import HEARTBEAT_KEY
from erasestream.topics.kafka.partitioner import MANY, murmur2, murmur2_all, partition_of

# From org.apache.kafka.common.utils.Utils of kafka-clients 4.4.0: murmur2 of the key, and the
# partition of 12 (toPositive, then modulo).  Every length of a tail, and bytes above 127.
JAVA = [
    (b"", 275646681, 9),
    (b"a", -1563381124, 4),
    (b"ab", 316155434, 2),
    (b"abc", 479470107, 3),
    (b"abcd", -1323649548, 8),
    (b"abcde", 461995741, 1),
    (b"\xff\x80\xfe", 957058525, 1),
    ("é中".encode(), -289825924, 4),
    (b"21", -973932308, 0),
    (b"foobar", -790332482, 6),
    (b"a-little-bit-long-string", -985981536, 8),
    (b"a-little-bit-longer-string", -1486304829, 11),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971, 5),
    (b"acct-1", 294059390, 2),
    (b"shop/acct-17", -913312499, 9),
    (HEARTBEAT_KEY, -746050916, 0),
]


@pytest.mark.parametrize(("key", "signed", "partition"), JAVA)
def test_hash_and_partition_equal_javas(key: bytes, signed: int, partition: int) -> None:
    # Java's numbers are signed, ours are not.
    assert murmur2(key) == signed % 2**32
    assert partition_of(key, 12) == partition


@given(st.lists(st.binary(max_size=9), max_size=4 * MANY))
def test_many_keys_have_the_hashes_of_each(keys: list[bytes]) -> None:
    """In their order, whatever their lengths, with enough of a length for one operation for all."""
    keys += [bytes([number]) * 8 for number in range(2 * MANY)]
    assert murmur2_all(keys) == [murmur2(key) for key in keys]


@given(key=st.binary(max_size=80), count=st.integers(1, 1000))
def test_every_key_has_one_partition(key: bytes, count: int) -> None:
    assert 0 <= partition_of(key, count) < count
    assert partition_of(bytes(key), count) == partition_of(key, count)


def test_accounts_are_spread_evenly() -> None:
    counts = [0] * 12
    for number in range(12_000):
        counts[partition_of(f"acct-{number}".encode(), 12)] += 1
    assert max(counts) < 2000
    assert min(counts) > 500

"""Record batches that no client library writes, drawn from a seed.

Each is a valid batch with one to three mutations: of its deltas, counts, times, attributes,
compression, headers, sizes, producer or bytes.  The CRC is always right, since the broker would
refuse the batch unread otherwise.  Pure but for the current time of a batch.
"""

import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import LaneRole
from erasestream.topics.catalog.topic_names import consent_of, ledger_of, uploads_of
from tests.raw_kafka import MAX_EPOCH, BatchHeader, Headers, batch, lz4_frame, record

ABSURD = (-(2**31), -1_000_000, -9, -2, -1, 0, 1, 2, 7, 1_000_000, 2**31 - 1)
TIMES_MS = (-1, 0, 1, 2**40, 2**62, 2**63 - 1)
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
CODEC_BITS = 0x07
ATTRIBUTE_BITS = 16
TRANSACTIONAL, CONTROL = 0x10, 0x20
FIRST_PRODUCER_IDS = 3000
"""Producer ids that a small cluster may have given to others: it counts from 0."""
MANY_HEADERS = 5_000
MANY_RECORDS = 60
MAX_VALUE_BYTES = 200_000


@dataclass(frozen=True)
class Target:
    """A topic that a role of a lane can write."""

    role: LaneRole
    topic_of: Callable[[Lane], str]


TARGETS = (
    Target(LaneRole.PRODUCER, uploads_of),
    Target(LaneRole.PRODUCER, uploads_of),  # twice: half of the batches are uploads
    Target(LaneRole.ACCOUNT, consent_of),
    Target(LaneRole.ACCOUNT, ledger_of),
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A valid record of the target's topic."""

    value: bytes | None
    headers: Headers
    key: bytes | None = None


@dataclass
class _Draft:
    """A batch to be mutated."""

    records: list[Sample]
    deltas: list[int]
    times_ms: list[int]
    header_counts: list[int | None]
    header: BatchHeader = field(default_factory=BatchHeader)
    encode: Callable[[bytes], bytes] = bytes

    def to_bytes(self) -> bytes:
        raw = b"".join(
            record(
                delta,
                sample.value,
                sample.headers,
                key=sample.key,
                since_first_ms=time_ms,
                header_count=count,
            )
            for sample, delta, time_ms, count in zip(
                self.records, self.deltas, self.times_ms, self.header_counts, strict=True
            )
        )
        header = self.header
        if header.count is None:
            header = replace(header, count=len(self.records))
        return batch(self.encode(raw), header)


def forged_batch(dice: random.Random, sample: Sample) -> bytes:
    """Return a batch made of this valid record."""
    count = dice.choice((1, 1, 2, 3, 5))
    draft = _Draft([sample] * count, list(range(count)), [0] * count, [None] * count)
    for mutate in dice.sample(MUTATIONS, dice.choice((1, 1, 2, 3))):
        mutate(draft, dice)
    return draft.to_bytes()


def _deltas(draft: _Draft, dice: random.Random) -> None:
    """Claim other offsets: absurd ones, those of neighbours, or the own ones in another order."""
    match dice.randrange(3):
        case 0:
            draft.deltas[dice.randrange(len(draft.deltas))] = dice.choice(ABSURD)
        case 1:
            first = dice.randrange(1, 4)
            draft.deltas = [first + n for n in draft.deltas]
        case _:
            dice.shuffle(draft.deltas)


def _counts(draft: _Draft, dice: random.Random) -> None:
    true = len(draft.records)
    count, last_delta = dice.choice((true, *ABSURD)), dice.choice((true - 1, *ABSURD))
    draft.header = replace(draft.header, count=count, last_delta=last_delta)


def _times(draft: _Draft, dice: random.Random) -> None:
    draft.header = replace(draft.header, timestamp_ms=dice.choice(TIMES_MS))
    draft.times_ms[0] = dice.choice((*ABSURD, *TIMES_MS, -(2**63)))


def _attributes(draft: _Draft, dice: random.Random) -> None:
    """Set some bits besides those of the codec: control, transactional, and unknown ones."""
    bits = dice.choice((CONTROL, TRANSACTIONAL, dice.getrandbits(ATTRIBUTE_BITS) & ~CODEC_BITS))
    _set_attributes(draft, draft.header.attributes ^ bits)


def _codec(draft: _Draft, dice: random.Random) -> None:
    """Compress, or claim a codec that the bytes do not have."""
    encoders = {GZIP: gzip.compress, LZ4: lz4_frame}
    codec = dice.randrange(1, 8)
    draft.encode = encoders.get(codec, bytes) if dice.random() < 0.8 else bytes
    _set_attributes(draft, draft.header.attributes & ~CODEC_BITS | codec)


def _set_attributes(draft: _Draft, bits: int) -> None:
    bits &= (1 << ATTRIBUTE_BITS) - 1
    signed = bits - (1 << ATTRIBUTE_BITS) if bits >> (ATTRIBUTE_BITS - 1) & 1 else bits
    draft.header = replace(draft.header, attributes=signed)


def _header_counts(draft: _Draft, dice: random.Random) -> None:
    """Claim another number of headers, or have very many."""
    at = dice.randrange(len(draft.records))
    if dice.random() < 0.5:
        draft.header_counts[at] = dice.choice(ABSURD)
    else:
        sample = draft.records[at]
        draft.records[at] = replace(sample, headers=[*sample.headers, *[("", None)] * MANY_HEADERS])


def _sizes(draft: _Draft, dice: random.Random) -> None:
    """Send no value, no headers, a large key or value, or very many records."""
    at = dice.randrange(len(draft.records))
    sample = draft.records[at]
    large = dice.randbytes(dice.choice((1, 10_000, MAX_VALUE_BYTES)))
    match dice.randrange(5):
        case 0:
            draft.records[at] = replace(sample, value=dice.choice((None, b"")))
        case 1:
            draft.records[at] = replace(sample, headers=())
        case 2:
            draft.records[at] = replace(sample, value=large)
        case 3:
            draft.records[at] = replace(sample, key=large)
        case _:
            draft.records = [replace(sample, value=None)] * MANY_RECORDS
            draft.deltas = list(range(MANY_RECORDS))
            draft.times_ms, draft.header_counts = [0] * MANY_RECORDS, [None] * MANY_RECORDS


def _producer(draft: _Draft, dice: random.Random) -> None:
    """Claim to be another producer, of a later epoch or with another sequence."""
    draft.header = replace(
        draft.header,
        producer_id=dice.choice((dice.randrange(FIRST_PRODUCER_IDS), -2, 2**63 - 1)),
        epoch=dice.choice((0, 1, MAX_EPOCH, -1, dice.randrange(MAX_EPOCH))),
        sequence=dice.choice((0, 1, -1, 2**31 - 1, dice.randrange(1000))),
    )


def _bytes(draft: _Draft, dice: random.Random) -> None:
    """Change some of the bytes of the records, before compression."""
    encode = draft.encode

    def changed(raw: bytes) -> bytes:
        data = bytearray(raw)
        for _ in range(dice.choice((1, 2, 8))):
            data[dice.randrange(min(len(data), 200))] = dice.randrange(256)
        return encode(bytes(data))

    draft.encode = changed


MUTATIONS = (
    _deltas,
    _counts,
    _times,
    _attributes,
    _codec,
    _header_counts,
    _sizes,
    _producer,
    _bytes,
)

"""Iterating over retained pictures, against the bare client that gets as many bytes.

Both with as many threads, from the same local bucket, in turn, under names of one length.  The
reader lists the pictures, which are of ten grants, opens each, and knows that its grant was not
erased 5 s before; the bare client of Cloud Storage is given the names.
"""

import secrets
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from erasestream.schemas.ids import GrantId
from erasestream.sinks.images.image_writer import OCTETS
from erasestream.sinks.images.retained_pictures import Selection
from tests.bench.figures import Figure, figure
from tests.bench.sink import (
    PREFIX,
    ROUND_BYTES,
    ROUNDS,
    SIZES,
    THREADS,
    Contenders,
    OneKey,
    contenders_of,
    sealed_picture,
)

GRANTS = [GrantId(str(uuid.uuid4())) for _ in range(10)]


def measure() -> Iterator[Figure]:
    """Yield one ratio for each size."""
    source = OneKey()
    for label, size in SIZES.items():
        with contenders_of(source) as contenders, ThreadPoolExecutor(THREADS) as pool:
            count = ROUND_BYTES // size
            for number in range(count):
                grant = GRANTS[number % len(GRANTS)]
                picture = sealed_picture(source, size).model_copy(update={"grant": grant})
                contenders.sink.store(picture)
                blob = contenders.bare.blob(f"{PREFIX}{secrets.token_hex(32)}")
                blob.upload_from_string(secrets.token_bytes(len(picture.data)), OCTETS)
            names = [blob.name for blob in contenders.bare.list_blobs()]
            ratios = [_ratio(contenders, pool, names) for _ in range(ROUNDS + 1)][1:]
        yield figure(f"reader.ratio_to_bare_client.{label}", ratios, "ratio", at_least=0.9)


def _ratio(contenders: Contenders, pool: ThreadPoolExecutor, names: list[str]) -> float:
    def get(name: str) -> int:
        return len(contenders.bare.blob(name).download_as_bytes(checksum="crc32c", retry=None))

    begun_s = time.perf_counter()
    pictures = contenders.reader.pictures(Selection(frozenset(GRANTS)), threads=THREADS)
    ours = sum(1 for _ in pictures)
    middle_s = time.perf_counter()
    bare = sum(1 for _ in pool.map(get, names))
    bare_s = time.perf_counter() - middle_s
    if ours != bare:
        raise RuntimeError(f"{ours} pictures were opened of {bare}")
    return bare_s / (middle_s - begun_s)

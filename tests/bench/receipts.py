"""Receipts: leaves appended to a local bucket, and one verified in a log of a million leaves."""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.receipts import ConsentLeaf, ReceiptExtra, Receipts, Subject
from erasestream.schemas.ids import AccountId, Lane, grant_id
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.buckets.gcs_client import GcsSettings
from erasestream.sinks.log.log_writer import MAX_BATCH, LogWriter
from erasestream.sinks.log.receipt import verify_receipt
from tests.bench.figures import Figure, figure
from tests.bucket_settings import OPEN, settings_in
from tests.sinks.log.sample_log import AUDITOR, KEY, SampleLog

BATCHES = 20
LEAVES = 1_000_000
ROUNDS = 100
RECEIPTS = Receipts(bytes(32))
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def measure() -> Iterator[Figure]:
    """Measure both."""
    yield figure("receipts.appended_per_s", list(_append()), "1/s", at_least=1000)
    yield figure("receipts.verify_ms", list(_verify()), "ms", at_most=50)


def _subject(number: int) -> Subject:
    return Subject(Lane("shop"), AccountId(f"account-{number}"), f"decision-{number}")


def _leaf(number: int) -> ConsentLeaf:
    subject = _subject(number)
    receipt_id = RECEIPTS.id("consent", subject)
    return ConsentLeaf(
        id=receipt_id,
        software="bench",
        subject=RECEIPTS.commitment(receipt_id, subject),
        decision=Decision.GRANTED,
        grant=grant_id(*subject),
        recorded=NOW,
    )


def _append() -> Iterator[float]:
    """Yield leaves per second of each batch, their encoding included."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = CertificateAuthority.create(folder / "ca", now=lambda: datetime.now(UTC))
        settings = settings_in(folder, authority)
        with BucketProcess.start(settings, folder) as server:
            bucket = GcsSettings(
                bucket=OPEN,
                max_object_bytes=1 << 26,
                endpoint=server.endpoint,
                ca_file=folder / "identities" / "ca.crt",
                token_file=settings.tokens / f"{Role.ROTATOR}.token",
            )
            with GcsObjectStore(bucket) as store:
                writer = LogWriter(store=store, key=KEY)
                for batch in range(BATCHES):
                    begun_s = time.perf_counter()
                    numbers = range(batch * MAX_BATCH, (batch + 1) * MAX_BATCH)
                    writer.append([_leaf(n).encode() for n in numbers], {})
                    yield MAX_BATCH / (time.perf_counter() - begun_s)


def _verify() -> Iterator[float]:
    """Yield milliseconds of single verifications, from the bytes of the file."""
    leaf, log = _leaf(7), SampleLog()
    raw, subject = leaf.encode(), _subject(7)
    filler = raw[:-1]
    numbers = range(LEAVES)
    for name, data in log.edge.append(raw if n == 7 else filler + b"%d" % n for n in numbers):
        if "entries" not in name:
            log.tiles[name] = data
    salt = RECEIPTS.salt(leaf.id).hex()
    extra = ReceiptExtra(leaf=raw.decode(), **subject._asdict(), salt=salt)
    file = log.prove(7, LEAVES, extra.encode()).format()
    for _ in range(ROUNDS):
        begun_s = time.perf_counter()
        verify_receipt(file, KEY.public, AUDITOR.public)
        yield (time.perf_counter() - begun_s) * 1000

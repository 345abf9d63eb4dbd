"""Storing sealed pictures, against the bare client of Cloud Storage that uploads as many bytes.

Both with as many threads, to the same local bucket, in turn, under names of one length.  A capsule
is opened, the recipients are replaced by the grant, and the object is created, each once.
"""

import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.cloud import storage
from google.oauth2.credentials import Credentials

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.schemas.sealing.capsule import seal_capsule
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import MAX_SEALED_BYTES, Context, seal, upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochRecipient
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.buckets.gcs_client import GcsSettings
from erasestream.sinks.images.capsule_keys import CapsuleKeys
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.image_writer import OCTETS, EncryptionSink
from erasestream.sinks.keys.key_vault import KeyVault, KeyVaultReader
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.purposes import uploads_for
from tests.bench.figures import Figure, figure
from tests.bench.servers import MEMORY
from tests.bucket_settings import OPEN, settings_in

SIZES = {"100KB": 100_000, "1MB": 1_000_000}
ROUND_BYTES = 50_000_000
ROUNDS = 7
THREADS = 8
TIMES = EpochTimes()
LANE, ACCOUNT = Lane("shop"), AccountId("bench")
GRANT = GrantId("018f3c4e-0000-7000-8000-00000000000f")
PREFIX = f"{secrets.token_hex(32)}/{GRANT}/{GRANT}.original."
"""Of the names of the bare client's objects: longer names take the bucket longer."""


class OneKey:
    """The key service's answer: the key of the present epoch."""

    def __init__(self) -> None:
        self.key = X25519PrivateKey.generate()

    def opening_key(self, *_: object, **__: object) -> bytes:
        """Return the key, as from the cache of a client."""
        return self.key.private_bytes_raw()

    def drop_dead(self) -> None:
        """Drop nothing."""


class Contenders(NamedTuple):
    """The sink, the reader of what it stored, and the bare client's bucket."""

    sink: EncryptionSink
    reader: RetainedReader
    bare: storage.Bucket


def measure() -> Iterator[Figure]:
    """Yield one ratio for each size, then the memory of processes of their own."""
    source = OneKey()
    with contenders_of(source) as contenders, ThreadPoolExecutor(THREADS) as pool:
        for name, size in SIZES.items():
            ratios = [_ratio(contenders, pool, source, size) for _ in range(ROUNDS + 1)][1:]
            yield figure(f"sink.ratio_to_bare_client.{name}", ratios, "ratio", at_least=0.9)
    yield figure("sink.rss_mb", [_peak_mb(1_000_000, 200) for _ in range(3)], "MB", at_most=250)
    yield figure("sink.rss_mb.60MB", [_peak_mb(60_000_000, 6)], "MB", at_most=400)


def _peak_mb(size: int, count: int) -> float:
    """Return the peak memory of a process that stores so many pictures."""
    command = [sys.executable, "-m", "tests.bench.sink_memory", str(size), str(count)]
    ended = subprocess.run(command, capture_output=True, check=True, text=True)
    return float(ended.stdout)


def _ratio(contenders: Contenders, pool: ThreadPoolExecutor, source: OneKey, size: int) -> float:
    events = [sealed_picture(source, size) for _ in range(ROUND_BYTES // size)]

    def upload(event: Retained) -> None:
        contenders.bare.blob(f"{PREFIX}{secrets.token_hex(32)}").upload_from_string(
            event.data, OCTETS, if_generation_match=0, checksum="crc32c", retry=None
        )

    ours_s = _seconds(pool, contenders.sink.store, events)
    bare_s = _seconds(pool, upload, events)
    return bare_s / ours_s


def _seconds(
    pool: ThreadPoolExecutor, store: Callable[[Retained], object], events: Sequence[Retained]
) -> float:
    begun_s = time.perf_counter()
    list(pool.map(store, events))
    return time.perf_counter() - begun_s


def sealed_picture(source: OneKey, size: int) -> Retained:
    upload = UploadId(f"bench-{secrets.token_hex(16)}")
    now = datetime.now(UTC)
    number = TIMES.number(now)
    recipient = EpochRecipient(Epoch(uploads_for(LANE), number), source.key.public_key())
    digest = upload_digest(LANE, ACCOUNT, upload)
    key = secrets.token_bytes(32)
    value = seal(
        secrets.token_bytes(size),
        context=Context(digest, Part.ORIGINAL, "image/jpeg"),
        recipients=[recipient],
        random=lambda _: key,
    )
    capsule = seal_capsule(
        digest,
        Epoch("sink", number),
        source.key.public_key(),
        photo=(key, value),
        cutout=(key, b""),
    )
    return Retained(
        id=upload,
        time=now,
        lane=LANE,
        account=ACCOUNT,
        part=Part.ORIGINAL,
        grant=GRANT,
        mark="0/1",
        position=Position(topic_id="A" * 22, partition=0, offset=1),
        uploaded_at=now,
        content_type=SEALED_CONTENT_TYPE,
        capsule=capsule,
        data=value,
    )


@contextmanager
def contenders_of(source: OneKey) -> Iterator[Contenders]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        authority = CertificateAuthority.create(folder / "ca", now=lambda: datetime.now(UTC))
        settings = settings_in(folder, authority)
        certificates = folder / "identities" / "ca.crt"
        with BucketProcess.start(settings, folder) as server:

            def store(bucket: str, role: Role = Role.SINK) -> GcsObjectStore:
                return GcsObjectStore(
                    GcsSettings(
                        bucket=bucket,
                        max_object_bytes=MAX_SEALED_BYTES,
                        endpoint=server.endpoint,
                        ca_file=certificates,
                        token_file=settings.tokens / f"{role}.token",
                    )
                )

            keyring = LocalKeyring.create(folder / "keyring")
            sink = EncryptionSink(
                store=store("images"),
                vault=KeyVault(store=store("vault"), keyring=keyring, clock=time.monotonic),
                name_key=bytes(32),
                capsules=CapsuleKeys(source, times=TIMES),
            )
            reader = RetainedReader(
                store=store("images", Role.READER),
                vault=KeyVaultReader(
                    store=store("vault", Role.READER), keyring=keyring, clock=time.monotonic
                ),
                clock=time.monotonic,
            )
            token = (settings.tokens / f"{Role.ROTATOR}.token").read_text().strip()
            client = storage.Client(
                project="bench",
                credentials=Credentials(token),  # type: ignore[no-untyped-call]
                client_options={"api_endpoint": server.endpoint},
            )
            client._http.trust_env = False  # or its certificates take precedence
            client._http.verify = str(certificates)
            yield Contenders(sink, reader, client.bucket(OPEN))

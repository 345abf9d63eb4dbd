"""Write pictures to `retained` as the router does, and see which of them are stored."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from typing import TypeVar

from erasestream.pipeline.bootstrap.storage import open_images, storage_of
from erasestream.pipeline.settings import Settings
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import GrantId, UploadId, new_upload_id
from erasestream.sinks.images.object_names import NAME_KEY_BYTES, ObjectNamer
from erasestream.sinks.secret_file import read_secret
from erasestream.topics.catalog.roles import AUDITOR, ROUTER
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from tests.bench.running_pipeline import SHOP
from tests.faults.erasure_evidence import Account, Written
from tests.kept_pictures import PNG, kept_picture

T = TypeVar("T")

STORED_S = 60.0
"""Longest wait until a picture is stored: sinks are killed all the time."""
POLL_S = 0.2
MAX_BYTES = 50_000


class ErasurePictures:
    """Pictures of all accounts.  Thread-safe."""

    def __init__(self, settings: Settings, dice: random.Random) -> None:
        self._dice = dice
        self._partitions = settings.kafka.retained_partitions
        self._lock = threading.Lock()
        self.written: list[Written] = []
        with ExitStack() as opened:
            connection = Connection(cluster=settings.cluster, role=ROUTER)
            writes = AcknowledgedWriter(connection=connection, timeout_s=60)
            self._writes = opened.enter_context(closing(writes))
            storage = storage_of(settings)
            self._images = opened.enter_context(open_images(storage, AUDITOR))
            self._namer = ObjectNamer(read_secret(storage.name_key, size=NAME_KEY_BYTES))
            self._opened = opened.pop_all()

    @property
    def ends(self) -> dict[Partition, int]:
        """Per partition of `retained` the offset after the last picture."""
        with self._lock:
            written = sorted((each.at, each.offset) for each in self.written)
        return {at: offset + 1 for at, offset in written}

    def write_new(self, account: Account, grant: GrantId, count: int) -> dict[UploadId, int]:
        """Write photos of new uploads; return their sizes."""
        now_ms = round(time.time() * 1000)
        sizes = {
            new_upload_id(now_ms, os.urandom(10)): self._dice.randint(len(PNG), MAX_BYTES)
            for _ in range(count)
        }
        self.write(account, grant, sizes, Part.ORIGINAL)
        return sizes

    def write(
        self, account: Account, grant: GrantId, sizes: Mapping[UploadId, int], part: Part
    ) -> None:
        """Write a picture of each upload."""
        records = [
            (
                Partition(RETAINED, self._dice.randrange(self._partitions)),
                b"key",
                to_wire(
                    kept_picture(SHOP, account.name, grant, upload, size, part), source="/router"
                ),
            )
            for upload, size in sizes.items()
        ]
        # A repetition is the same object.
        written = persist(lambda: [each.result() for each in self._writes.write_all(records)])
        with self._lock:
            self.written += [
                Written(at, each.offset, (grant, upload, part))
                for upload, (at, _, _), each in zip(sizes, records, written, strict=True)
            ]

    def are_under_way(
        self, account: Account, grant: GrantId, uploads: Iterable[UploadId], part: Part
    ) -> bool:
        """Wait until a picture of these is stored; return whether others are not."""
        prefix = f"{self._namer.owner(SHOP, account.name)}/{grant}/"
        names = {f"{prefix}{upload}.{part}" for upload in uploads}
        deadline = Deadline(STORED_S, time.monotonic)
        while not deadline.has_passed:
            listed = persist(lambda: [info.name for info in self._images.list(prefix)])
            stored = sum(name.rpartition(".")[0] in names for name in listed)
            if stored:
                return stored < len(names)
            time.sleep(POLL_S)
        return True  # the sinks are too busy

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()


def persist(attempt: Callable[[], T]) -> T:
    """Repeat it until it is acknowledged or answered, as an owner's service does."""
    while True:
        try:
            return attempt()
        except Unavailable:
            time.sleep(1)
